"""Threads of torch: no more than the processors of this process, and none that spins in waiting."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch

from statebridge.models.threads import take_usable_processors


@pytest.fixture
def two_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_threads_follow_the_usable_processors(
    two_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    take_usable_processors()
    assert torch.get_num_threads() == 1


def test_fewer_threads_than_processors_are_left(two_threads: None) -> None:
    torch.set_num_threads(1)
    take_usable_processors()
    assert torch.get_num_threads() == 1


def test_a_declared_number_of_threads_is_left(
    two_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    take_usable_processors()
    assert torch.get_num_threads() == 2


@pytest.mark.slow
def test_openmp_waits_without_spinning() -> None:
    """As torch's own OpenMP library prints it when it is loaded."""
    done = subprocess.run(
        [sys.executable, "-c", "import statebridge, torch"],
        env={k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
        | {"OMP_DISPLAY_ENV": "TRUE"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in done.stderr
