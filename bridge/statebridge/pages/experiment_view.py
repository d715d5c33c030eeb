"""An experiment as a page shows it: read from a job of a server, or from a run directory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from statebridge.experiment.declared import is_model_folder
from statebridge.results.service_records import ENDED


@dataclass(frozen=True, slots=True)
class LogLine:
    """Something that happened to an experiment."""

    at: datetime
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentView:
    """One experiment, as lists and its own page show it."""

    id: str
    """In the address of its page."""
    name: str
    state: str
    """queued, running, done, failed or cancelled; of a run directory done or unfinished."""
    pair: str
    done: int
    """Committed lanes."""
    total: int
    submitted: datetime
    owner: str = ""
    """Empty where there is one user only."""
    detail: str = ""
    """Present stage, or the condition that it waits for."""
    left: float | None = None
    """Seconds that it still takes at its present speed, where that is known."""
    finished: datetime | None = None
    error: str | None = None
    reused: int = 0
    may_cancel: bool = False
    may_resume: bool = False
    may_delete: bool = False

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self.state in ENDED

    @property
    def share(self) -> str:
        """Committed lanes in per cent."""
        return percent_done(self.done, self.total)

    @property
    def time_left(self) -> str:
        """The seconds left in words; empty where they are not known."""
        return "" if self.left is None else time_left(self.left)


def experiment_facts(experiment: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what a reader looks for first in an experiment as resolved: name and value."""
    facts = [
        (side, f"{_model(experiment[side]['model'])}, layer {experiment[side]['layer']}")
        for side in ("sender", "receiver")
    ]
    dataset = experiment["dataset"]
    if generated := dataset.get("generate"):
        count = min(generated["rows"], experiment.get("limit") or generated["rows"])
        rows = f"{count} rows of the task {generated['task']}, generated"
    else:
        rows = str(dataset.get("sha256") or Path(dataset.get("path") or "").name)
    seeds = ", ".join(str(seed) for seed in experiment["seeds"])
    return [*facts, ("dataset", rows), ("seeds", seeds)]


def _model(name: str) -> str:
    """Return a model's name, of a folder its last part: where it is is nobody's concern."""
    return Path(name).name if is_model_folder(name) else name


def percent_done(done: int, total: int) -> str:
    """Return a share in per cent; 100 only where all is done."""
    return f"{100 * done // total if total else 0} %"


def seconds_left(done_before: int, done: int, total: int, seconds: float) -> float | None:
    """Return the seconds that the remaining lanes take at the speed so far.

    Args:
        done_before: Lanes that were done when the clock began.
        done: Lanes done now.
        total: Lanes of the whole.
        seconds: Since the clock began.

    Returns:
        None where nothing was done yet, so that no speed is known.
    """
    fresh = done - done_before
    if fresh <= 0 or seconds <= 0:
        return None
    return (total - done) * seconds / fresh


_UNITS = ((86_400.0, "d"), (3600.0, "h"), (60.0, "min"))


def time_left(seconds: float) -> str:
    """Return a number of seconds in one unit, as a person says it: `3 min`, `2 h`."""
    for length, unit in _UNITS:
        if seconds >= 1.5 * length:
            return f"{round(seconds / length)} {unit}"
    return f"{max(1, round(seconds))} s"
