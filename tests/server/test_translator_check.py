"""Uploaded translators are read in a process that is started once and ends when it is idle."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from statebridge.demo.taught_pair import taught_translators
from statebridge.errors import EnvironmentFault, TranslatorError
from statebridge_server import translator_check
from statebridge_server.translator_check import read_card


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> Iterator[translator_check._Reader]:
    made = translator_check._Reader()
    monkeypatch.setattr(translator_check, "_READER", made)
    yield made
    made.end()


@pytest.mark.slow
def test_one_process_reads_several_files(reader: translator_check._Reader, tmp_path: Path) -> None:
    seeds = taught_translators()
    cards = [read_card(path) for path in seeds.values()]
    process = reader._process
    assert process is not None
    assert [card["causal"]["seed"] for card in cards] == list(seeds)

    # What is no translator is refused, and the next one is still read.
    nothing = tmp_path / "nothing.safetensors"
    nothing.write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    with pytest.raises(TranslatorError, match="upload"):
        read_card(nothing)
    assert reader._process is process

    # A process that died is an error of that upload alone.
    os.kill(process.pid, signal.SIGSTOP)
    killing = threading.Timer(0.2, process.kill)
    killing.start()
    with pytest.raises(EnvironmentFault, match="ended with -9"):
        read_card(next(iter(seeds.values())))
    killing.join()
    assert read_card(next(iter(seeds.values()))) == cards[0]

    reader.end()
    assert reader._process is None


def test_a_process_that_does_not_answer_is_killed(
    reader: translator_check._Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(translator_check, "PATIENCE_SECONDS", 0.1)
    # Python alone takes longer to import the library.
    with pytest.raises(EnvironmentFault, match="in time"):
        read_card(next(iter(taught_translators().values())))
    assert reader._process is None
