"""Progress of long work on standard error: bars in a terminal or notebook, elsewhere lines."""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

STAGES = {
    "serve": "starting a server",
    "submit": "submitting the experiment",
    "load": "loading the pair",
    "capture": "capturing states of the corpus",
    "train": "training translators",
    "causal_capture": "capturing states for the receiver",
    "causal_train": "training through the receiver",
    "quality": "measuring translators",
    "reuse": "taken from earlier runs",
    "run": "running lanes",
    "positive_control": "positive control",
    "taught_pair": "positive control: taught pair",
    "check": "checking inside the sender",
    "similarity": "comparing layers",
    "profile": "profiling layers",
    "stitch": "stitched cross-entropy",
    "layers": "measuring layers",
    "layer_search": "pairs of layers",
    "compare": "comparing conditions",
    "draw": "drawing figures",
}
"""Stage of an engine or of a server's experiment, in words."""

FIRST_LINE_SECONDS, LINE_SECONDS = 2.0, 30.0
"""Least and most seconds between two lines about one stage; see `_Lines`."""


class ShowProgress(Protocol):
    """Callback that shows one step of a stage."""

    def __call__(self, stage: str, done: int, total: int, note: str = "", /) -> None:
        """Show that `done` of `total` are done; `note` is a few words, such as the speed."""


@contextmanager
def show_progress(
    *, quiet: bool = False, name: str = "", console: Console | None = None
) -> Iterator[ShowProgress]:
    """Give a callback (stage, done, total[, note]) that draws one bar for each stage.

    Args:
        quiet: Show nothing.
        name: Word before each stage, such as the name of the experiment.
        console: Standard error if not given.
    """
    console = console or Console(stderr=True)
    # Without ipywidgets a bar in a notebook would be a warning and nothing else.
    notebook = console.is_jupyter and find_spec("ipywidgets") is not None
    prefix = f"{name}: " if name else ""
    if quiet:
        yield lambda *_: None
    elif notebook or (console.is_terminal and not console.is_jupyter):
        columns = (
            TextColumn("{task.description:32}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console) as bars:
            yield _Bars(bars, prefix)
    else:
        lines = _Lines(console, prefix)
        try:
            yield lines
        finally:
            lines.end()


def print_caution(text: str) -> None:
    """Print a caution of a run on standard error; bars stay below it."""
    print(f"caution: {text}", file=sys.stderr)


class _Bars:
    """A bar for each stage."""

    def __init__(self, bars: Progress, prefix: str) -> None:
        self._bars = bars
        self._prefix = prefix
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, stage: str, done: int, total: int, note: str = "", /) -> None:
        if stage not in self._tasks:
            label = f"{self._prefix}{STAGES.get(stage, stage)}"
            self._tasks[stage] = self._bars.add_task(label, total=None, note="")
        task = self._tasks[stage]
        self._bars.update(task, completed=done, total=total or None, note=note)


class _Lines:
    """A line when a stage begins and then ever more seldom, for a log file.

    The pause is a tenth of the time since the beginning, from two seconds to half a minute: who
    waits for a short piece of work sees that it goes on, and the log of a long one stays short. The
    line comes whether or not anything was done since.
    """

    def __init__(self, console: Console, prefix: str) -> None:
        self._console = console
        self._prefix = prefix
        self._stage = self._text = ""
        self._start = self._began = self._last = time.monotonic()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._repeat, daemon=True)
        self._thread.start()

    def __call__(self, stage: str, done: int, total: int, note: str = "", /) -> None:
        with self._lock:
            now = time.monotonic()
            if stage != self._stage:
                self._stage, self._began, self._last = stage, now, -math.inf
            self._text = f"{self._prefix}{STAGES.get(stage, stage)}: {done}/{total}"
            self._text += f", {note}" if note else ""
            if now - self._last >= self._pause(now):
                self._print(now)

    def _pause(self, now: float) -> float:
        return min(LINE_SECONDS, max(FIRST_LINE_SECONDS, (now - self._start) / 10))

    def end(self) -> None:
        """Print no further line."""
        self._ended.set()
        self._thread.join()

    def _repeat(self) -> None:
        while not self._ended.wait(min(LINE_SECONDS, 0.5)):
            with self._lock:
                now = time.monotonic()
                if self._text and now - self._last >= self._pause(now):
                    self._print(now)

    def _print(self, now: float) -> None:
        elapsed = now - self._began
        self._last = now
        again = elapsed >= min(FIRST_LINE_SECONDS, LINE_SECONDS)
        text = self._text + (f" after {elapsed:.0f} s" if again else "")
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)
