"""Conditions of every test of the oracle: one thread, and not a warning."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """For models this small more threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class _Collector(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@pytest.fixture(autouse=True)
def _silence() -> Iterator[None]:
    """Fail where transformers logs a warning; Python's warnings are errors already."""
    collector = _Collector()
    logging.getLogger("transformers").addHandler(collector)
    yield
    logging.getLogger("transformers").removeHandler(collector)
    assert not collector.messages
