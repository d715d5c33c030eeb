"""Progress in a terminal, in a notebook, and in a log file."""

from __future__ import annotations

import io
import time

import pytest
from rich.console import Console

from statebridge.progress import _Lines, show_progress

STEPS = (
    ("queued", 0, 8, ""),
    ("capture", 5, 10, ""),
    ("run", 4, 8, "2.0 lanes/s, 1:02:05 left"),
    ("run", 6, 8, "2.0 lanes/s, 0:01 left"),
    ("done", 8, 8, ""),
)
LINES = [
    "mine [b]: queued: 0/8",
    "mine [b]: capturing states of the corpus: 5/10",
    "mine [b]: running lanes: 4/8, 2.0 lanes/s, 1:02:05 left",
    "mine [b]: done: 8/8",
]


def shown(console: Console) -> str:
    with show_progress(name="mine [b]", console=console) as show:
        for step in STEPS:
            show(*step)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_lines_where_nobody_draws() -> None:
    assert shown(Console(file=io.StringIO(), width=40)).splitlines() == LINES


def test_bars_in_a_terminal() -> None:
    text = shown(Console(file=io.StringIO(), force_terminal=True, width=160))
    assert "mine [b]: running lanes" in text
    assert "2.0 lanes/s, 0:01 left" in text
    assert "mine [b]: done" in text
    assert "8/8" in text


def test_lines_in_a_notebook_without_widgets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("statebridge.progress.find_spec", lambda _name: None)
    console = Console(file=io.StringIO(), force_jupyter=True)
    written: list[str] = []
    # In a notebook rich displays through IPython, which need not be here.
    monkeypatch.setattr(console, "print", lambda text, **_: written.append(text))
    with show_progress(name="mine [b]", console=console) as show:
        for step in STEPS:
            show(*step)
    assert written == LINES


def test_a_stage_may_have_no_note_and_no_name() -> None:
    console = Console(file=io.StringIO(), width=40)
    with show_progress(console=console) as show:
        show("load", 0, 1)
    assert console.file.getvalue() == "loading the pair: 0/1\n"  # type: ignore[attr-defined]


def test_nothing_where_nothing_is_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    with show_progress(quiet=True) as show:
        for step in STEPS:
            show(*step)
    assert capsys.readouterr() == ("", "")


def test_a_log_shows_that_work_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is called while a group of rows takes minutes."""
    monkeypatch.setattr("statebridge.progress.LINE_SECONDS", 0.05)
    console = Console(file=io.StringIO(), width=80)
    with show_progress(console=console) as show:
        show("run", 0, 440)
        time.sleep(0.4)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert lines[0] == "running lanes: 0/440"
    assert len(lines) > 2
    assert set(lines[1:]) == {"running lanes: 0/440 after 0 s"}


def test_lines_come_soon_at_first_and_seldom_later() -> None:
    lines = _Lines(Console(file=io.StringIO()), "")
    lines.end()
    assert lines._pause(lines._start + 5) == 2.0  # so that a short demo is never silent for long
    assert lines._pause(lines._start + 100) == pytest.approx(10.0)
    assert lines._pause(lines._start + 4000) == 30.0
