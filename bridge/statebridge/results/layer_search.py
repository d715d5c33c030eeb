"""Directory of a layer search: its plan, and one run directory for each pair of layers.

layer_search.json   the experiment, the layers of each run, and the split of the rows
s06-r12/            the run that reads sender layer 6 and writes receiver layer 12
lanes.sqlite        while the search runs: lanes that runs at other layers reuse

In directories of earlier versions the plan is `sweep.json`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from statebridge.data.files import atomic_writer
from statebridge.errors import EnvironmentFault, ResultError
from statebridge.experiment.experiment import Experiment
from statebridge.records import Record, ResultSet
from statebridge.results.run_results import read_run
from statebridge.runs.directory import MANIFEST
from statebridge.runs.same_run import check_same

PLAN, LANES = "layer_search.json", "lanes.sqlite"
EARLIER_PLAN = "sweep.json"
FORMAT, EARLIER_FORMAT = "statebridge.layer_search.v1", "statebridge.sweep.v1"
LEAST_ROWS = 10
"""Rows of either part of a split, at least."""

Layers = tuple[int, int]
"""Sender's layer, receiver's layer, counted from 0."""


class Split(Record):
    """The rows that are chosen on, and those that what is chosen is reported on."""

    share: float
    seed: int
    choosing: tuple[str, ...]
    """Row ids, in the order of the dataset."""
    reporting: tuple[str, ...]


class LayerRun(Record):
    """One run of a layer search."""

    sender_layer: int
    receiver_layer: int
    directory: str

    @property
    def layers(self) -> Layers:
        """Sender's and receiver's layer."""
        return self.sender_layer, self.receiver_layer


class LayerSearchPlan(Record):
    """The content of `layer_search.json`."""

    format: str = FORMAT
    experiment: dict[str, Any]
    """As declared, without `execution`."""
    dataset_sha256: str
    split: Split
    runs: tuple[LayerRun, ...]

    @property
    def declared(self) -> Experiment:
        """The experiment."""
        return Experiment.model_validate(self.experiment)


@dataclass(frozen=True, slots=True)
class LayerSearchResults:
    """A finished layer search: its plan and the results at each pair of layers."""

    path: Path
    plan: LayerSearchPlan
    runs: Mapping[Layers, ResultSet]
    """In the order of the plan."""


def split_rows(row_ids: Sequence[str], share: float, seed: int, least: int = LEAST_ROWS) -> Split:
    """Split rows into those to choose on and those to report on, by a hash of seed and row id.

    A row's part does not depend on which other rows there are.

    Raises:
        ResultError: A part would hold fewer than `least` rows.
    """
    choosing = tuple(row_id for row_id in row_ids if _place(seed, row_id) < share)
    chosen = set(choosing)
    reporting = tuple(row_id for row_id in row_ids if row_id not in chosen)
    if min(len(choosing), len(reporting)) < least:
        raise ResultError(
            f"layer_search.choose: of {len(row_ids)} rows {len(choosing)} would be chosen on and "
            f"{len(reporting)} reported on, and each needs {least}; run more rows, or give "
            "another share"
        )
    return Split(share=share, seed=seed, choosing=choosing, reporting=reporting)


def _place(seed: int, row_id: str) -> float:
    digest = hashlib.sha256(f"statebridge held-out choice|{seed}|{row_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def restricted(results: ResultSet, row_ids: Iterable[str]) -> ResultSet:
    """Return results over some of their rows only; nothing of the others is in what is returned."""
    kept = frozenset(row_ids)
    cells = [
        replace(cell, lanes=[row for row in cell.lanes if row.row_id in kept], excluded_rows=None)
        for cell in results.cells
    ]
    dataset = {row_id: row for row_id, row in results.dataset.items() if row_id in kept}
    return ResultSet(cells=cells, dataset=dataset)


def is_layer_search(path: str | Path) -> bool:
    """Whether a directory is that of a layer search."""
    return _plan_file(Path(path)).is_file()


def _plan_file(path: Path) -> Path:
    earlier = path / EARLIER_PLAN
    return earlier if earlier.is_file() else path / PLAN


def open_plan(path: Path, plan: LayerSearchPlan) -> None:
    """Write a plan into its directory, made if needed; an earlier one must be the same.

    Raises:
        ResultError: The path is a file, or a directory that holds another one or something else.
        EnvironmentFault: It cannot be made or written.
    """
    file = _plan_file(path)
    if path.exists() and not path.is_dir():
        raise ResultError(f"{path}: is a file; give a directory for the layer search")
    if file.exists():
        earlier = _read_plan(file)
        check_same(plan.model_dump(mode="json"), earlier.model_dump(mode="json"), file)
        return
    try:
        strangers = sorted(p.name for p in path.iterdir()) if path.is_dir() else []
        # A killed process may have left a plan that was not yet renamed into place.
        strangers = [name for name in strangers if not name.startswith(f".{PLAN}.")]
        if strangers:
            raise ResultError(
                f"{path}: holds {strangers[0]} and no {PLAN}; give an empty or new directory"
            )
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentFault(
            f"{path}: cannot be made: {error.strerror}; give a directory that is writable"
        ) from None
    with atomic_writer(file) as stream:
        stream.write(plan.model_dump_json(indent=2).encode("utf-8") + b"\n")


def started_as(path: Path) -> dict[str, Any] | None:
    """Return the experiment that a directory was started with; None in a new one."""
    return _read_plan(_plan_file(path)).experiment if is_layer_search(path) else None


def read_layer_search(path: str | Path) -> LayerSearchResults:
    """Read a finished layer search.

    Raises:
        ResultError: Not the directory of a layer search, a run is missing or not finished, or a run
            or the split is not that of the plan.
    """
    path = Path(path)
    if not is_layer_search(path):
        raise ResultError(
            f"{path}: no {PLAN}; give a directory that `statebridge layer-search` wrote"
        )
    file = _plan_file(path)
    plan = _read_plan(file)
    runs = {run.layers: _read_run(path, run, plan) for run in plan.runs}
    stated = plan.split
    for layers, results in runs.items():
        if split_rows(list(results.dataset), stated.share, stated.seed) != stated:
            raise ResultError(
                f"{file}: the split is not that of its seed and the rows of layers "
                f"{layers[0]} and {layers[1]}; restore the file"
            )
    return LayerSearchResults(path, plan, runs)


def _read_run(path: Path, run: LayerRun, plan: LayerSearchPlan) -> ResultSet:
    folder = path / run.directory
    if not (folder / MANIFEST).is_file():
        raise ResultError(
            f"{folder}: is not there yet; start `statebridge layer-search` again to go on"
        )
    results = read_run(folder)
    manifest = results.manifest or {}
    found = tuple(manifest["pair"][side]["layer"] for side in ("sender", "receiver"))
    if found != run.layers or manifest["dataset"]["sha256"] != plan.dataset_sha256:
        raise ResultError(
            f"{folder}: is a run of layers {found[0]} and {found[1]} over rows "
            f"{manifest['dataset']['sha256'][:12]}, not the one that {PLAN} states"
        )
    unfinished = next((cell for cell in results.cells if not cell.complete), None)
    if unfinished is not None:
        raise ResultError(
            f"{folder}: cell {unfinished.name} is not finished; start `statebridge layer-search` "
            "again to go on"
        )
    return results


def _read_plan(file: Path) -> LayerSearchPlan:
    try:
        data = json.loads(file.read_bytes())
        if not isinstance(data, dict) or data.get("format") not in (FORMAT, EARLIER_FORMAT):
            raise ResultError(f"{file}: not a layer search of format {FORMAT}")
        experiment = data.get("experiment")
        if isinstance(experiment, dict) and "sweep" in experiment:
            experiment["layer_search"] = experiment.pop("sweep")
        plan = LayerSearchPlan.model_validate(data | {"format": FORMAT})
        Experiment.model_validate(plan.experiment)
    except (OSError, ValidationError, ValueError) as error:
        problem = " ".join(str(error).split())[:200]
        raise ResultError(f"{file}: not the plan of a layer_search: {problem}") from None
    return plan
