"""The progress of a remote experiment: a bar in a terminal or notebook, else now and then a line.

On standard error, as all progress, so that a script can read the answer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from statebridge.commands.progress import STAGES
from statebridge_client._events import Event

LINE_SECONDS = 30.0


@contextmanager
def progress_bar(
    name: str, *, shown: bool = True, console: Console | None = None
) -> Iterator[Callable[[Event], None]]:
    """Give a callback that shows an event."""
    if not shown:
        yield lambda _event: None
        return
    console = console or Console(stderr=True)
    # Without ipywidgets a bar in a notebook would be a warning and nothing else.
    notebook = console.is_jupyter and find_spec("ipywidgets") is not None
    if not notebook and not (console.is_terminal and not console.is_jupyter):
        yield _Lines(console, name).update
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}", markup=False),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as bars:
        task = bars.add_task(f"{name}: queued", total=None, speed="")

        def update(event: Event) -> None:
            bars.update(
                task,
                description=f"{name}: {describe(event)}",
                completed=event.done,
                total=event.total or None,
                speed=speed(event),
            )

        yield update


def describe(event: Event) -> str:
    """Say in words what is going on."""
    if event.kind == "progress" and event.stage is not None:
        return STAGES.get(event.stage, event.stage)
    return event.state


def speed(event: Event) -> str:
    """Say how fast it goes and how long it will take, where that is known."""
    if event.rows_per_second is None or event.seconds_left is None:
        return ""
    minutes, seconds = divmod(round(event.seconds_left), 60)
    hours, minutes = divmod(minutes, 60)
    left = f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
    return f"{event.rows_per_second:.1f} rows/s, {left} left"


class _Lines:
    """A line when something new begins, and then every half minute: what a log file wants."""

    def __init__(self, console: Console, name: str) -> None:
        self._console = console
        self._name = name
        self._what = ""
        self._last = 0.0

    def update(self, event: Event) -> None:
        what, now = describe(event), time.monotonic()
        if what == self._what and now - self._last < LINE_SECONDS:
            return
        self._what, self._last = what, now
        fast = speed(event)
        line = f"{self._name}: {what}: {event.done}/{event.total}" + (f", {fast}" if fast else "")
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)
