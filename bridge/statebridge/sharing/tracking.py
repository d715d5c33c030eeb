"""Logging a run to an experiment tracker: what is logged, and the trackers by name."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from statebridge.data.files import atomic_writer
from statebridge.errors import (
    EnvironmentFault,
    InputError,
    RemoteError,
    ResultError,
    StatebridgeError,
)
from statebridge.records import ResultSet
from statebridge.registry import Registry
from statebridge.report.run_card import write_page
from statebridge.results.by_condition import condition_cells
from statebridge.scoring.measures import DEFAULT_MEASURES
from statebridge.tables.estimates import row_means, score

PROJECT = "statebridge"
"""The project of a tracker, where none is given."""

Setting = str | int | float | bool


@dataclass(frozen=True, slots=True)
class LoggedRun:
    """One run, as a tracker gets it."""

    name: str
    """Name of the experiment."""
    settings: Mapping[str, Setting]
    """Settings of the manifest by their path, such as `decoding.max_new_tokens`; lists are JSON."""
    metrics: Mapping[str, float]
    """Means over rows as `CONDITION/METRIC`; with `_low` and `_high` the ends of its interval."""
    files: tuple[Path, ...]
    """The manifest and the report; they are there until the tracker returns."""


class Tracker(Protocol):
    """A function that logs one run, with a first line of documentation for `statebridge ls`.

    Examples:
        >>> @TRACKERS.add("lines")
        ... def lines(run: LoggedRun, project: str) -> str:
        ...     "Lines of a file, one for each metric."
        ...     file = Path(f"{project}.txt")
        ...     file.write_text("\\n".join(f"{name} {x}" for name, x in run.metrics.items()))
        ...     return str(file)
    """

    def __call__(self, run: LoggedRun, project: str) -> str:
        """Log the run under a project; return in words where it is."""


TRACKERS: Registry[Tracker] = Registry(
    "tracker", package="statebridge.sharing", group="statebridge.trackers", error=InputError
)


def log_run(results: ResultSet, to: str, project: str = PROJECT) -> str:
    """Log a run to a tracker, as a new run of it; return in words where it is.

    Means and intervals are those of the pages: a row's seeds are averaged first, and a metric from
    0 to 1 has a 95 % interval for other rows. Other metrics have no interval of a mean.

    Args:
        results: Those of one run directory.
        to: Name of the tracker: `mlflow`, `wandb`, `trackio`, or one that a plug-in adds.
        project: Name of the project, which MLflow calls an experiment.

    Raises:
        InputError: No such tracker.
        ResultError: Not one run's results, or no row is committed yet.
        EnvironmentFault: The tracker is not installed.
        RemoteError: The tracker refused the run or failed.
    """
    tracker = TRACKERS.get(to)
    manifest = results.manifest
    if manifest is None:
        raise ResultError("a tracker logs the settings of one run directory; give exactly one")
    name = str(manifest["experiment"].get("name") or "run")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "manifest.json"
        with atomic_writer(file) as stream:
            stream.write(json.dumps(manifest, indent=2, ensure_ascii=False).encode())
        files = file, write_page(results, Path(folder) / "report.html", name)
        logged = LoggedRun(name, logged_settings(manifest), logged_metrics(results), files)
        try:
            return tracker(logged, project)
        except StatebridgeError:
            raise
        except Exception as error:  # of the tracker, of its network, of its store
            reason = " ".join(str(error).split())
            raise RemoteError(
                f"{to}: the run could not be logged ({type(error).__name__}: {reason:.300}); "
                f"check {to}'s own settings, or its file if the tracker is yours"
            ) from error


def logged_settings(manifest: Mapping[str, Any]) -> dict[str, Setting]:
    """Return the settings of a manifest by their path; what is not set is left out."""
    stated = {
        **manifest["experiment"],
        "pair": manifest["pair"],
        "rows": manifest["dataset"],
        "versions": manifest.get("versions", {}),
        "created_at": manifest.get("created_at"),
    }
    return dict(_flat(stated, ""))


def _flat(value: Any, path: str) -> Iterator[tuple[str, Setting]]:
    if isinstance(value, Mapping):
        for name, part in value.items():
            yield from _flat(part, f"{path}.{name}" if path else str(name))
    elif isinstance(value, str | int | float):
        yield path, value
    elif value is not None:
        yield path, json.dumps(value, ensure_ascii=False)


def logged_metrics(results: ResultSet) -> dict[str, float]:
    """Return each condition's means, with the ends of their intervals where they have one."""
    found: dict[str, float] = {}
    for group in condition_cells(results):
        for measure in DEFAULT_MEASURES:
            mean, interval, _ = score(row_means(group.cells, measure), measure)
            if mean is not None:
                found[f"{group.condition}/{measure}"] = mean
            if interval is not None:
                found[f"{group.condition}/{measure}_low"] = interval.low
                found[f"{group.condition}/{measure}_high"] = interval.high
    return found


def needed(module: str) -> Any:
    """Return a package that an extra of the same name installs.

    Raises:
        EnvironmentFault: It is not installed.
    """
    try:
        return import_module(module)
    except ImportError:
        raise EnvironmentFault(
            f"{module} is not installed; pip install 'statebridge[{module}]'"
        ) from None
