"""Progress of long work on standard error: bars in a terminal, now and then a line elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

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
    "load": "loading the pair",
    "capture": "capturing states of the corpus",
    "train": "training translators",
    "causal_capture": "capturing states for the receiver",
    "causal_train": "training through the receiver",
    "quality": "measuring translators",
    "reuse": "taken from earlier runs",
    "run": "running rows",
    "positive_control": "positive control",
    "taught_pair": "positive control: taught pair",
    "check": "checking inside the sender",
    "similarity": "comparing layers",
    "stitch": "stitched cross-entropy",
    "layers": "measuring layers",
    "sweep": "pairs of layers",
}


@contextmanager
def progress_bars(*, quiet: bool = False) -> Iterator[Callable[[str, int, int], None]]:
    """Give a callback (stage, done, total) that draws one bar per stage."""
    columns = (
        TextColumn("{task.description:32}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield _ignore if quiet else _Lines(console).update
        return
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=console) as bars:

        def update(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(STAGES.get(stage, stage), total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield update


def _ignore(_stage: str, _done: int, _total: int) -> None:
    return


class _Lines:
    """A line when a stage begins and then every half minute: what a log file wants."""

    SECONDS = 30.0

    def __init__(self, console: Console) -> None:
        self._console = console
        self._stage = ""
        self._last = 0.0

    def update(self, stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        if stage == self._stage and now - self._last < self.SECONDS:
            return
        self._stage, self._last = stage, now
        self._console.print(
            f"{STAGES.get(stage, stage)}: {done}/{total}", highlight=False, markup=False
        )
