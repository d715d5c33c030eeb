"""Progress in a terminal, in a notebook, and in a log file."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from statebridge_client import Event
from statebridge_client._progress_bar import describe, progress_bar, speed

EVENTS = (
    Event("state", "queued", total=8),
    Event("progress", "running", "capture", 5, 10),
    Event("progress", "running", "run", 4, 8, 2.0, 3725.0),
    Event("progress", "running", "run", 6, 8, 2.0, 1.0),
    Event("state", "done", done=8, total=8),
)


def shown(console: Console) -> str:
    with progress_bar("mine [b]", console=console) as show:
        for event in EVENTS:
            show(event)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_lines_where_nobody_draws() -> None:
    assert shown(Console(file=io.StringIO(), width=40)).splitlines() == [
        "mine [b]: queued: 0/8",
        "mine [b]: capturing states of the corpus: 5/10",
        "mine [b]: running rows: 4/8, 2.0 rows/s, 1:02:05 left",
        "mine [b]: done: 8/8",
    ]


def test_a_bar_in_a_terminal() -> None:
    text = shown(Console(file=io.StringIO(), force_terminal=True, width=120))
    assert "mine [b]: done" in text
    assert "8/8" in text


def test_lines_in_a_notebook_without_widgets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("statebridge_client._progress_bar.find_spec", lambda _name: None)
    console = Console(file=io.StringIO(), force_jupyter=True)
    written: list[str] = []
    # In a notebook rich displays through IPython, which need not be here.
    monkeypatch.setattr(console, "print", lambda text, **_: written.append(text))
    with progress_bar("mine", console=console) as show:
        for event in EVENTS:
            show(event)
    assert written[0] == "mine: queued: 0/8"
    assert len(written) == 4


def test_nothing_where_nothing_is_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("mine", shown=False) as show:
        for event in EVENTS:
            show(event)
    assert capsys.readouterr() == ("", "")


def test_words() -> None:
    assert [describe(event) for event in EVENTS[:3]] == [
        "queued",
        "capturing states of the corpus",
        "running rows",
    ]
    assert speed(EVENTS[0]) == ""
    assert speed(EVENTS[3]) == "2.0 rows/s, 0:01 left"
