"""Reading a run directory as tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from statebridge.data.answers import ALIASES, attribute_names
from statebridge.data.jsonl import FieldMap, read_jsonl
from statebridge.errors import ResultError
from statebridge.experiment.conditions import (
    PRIVATE_PROMPTS,
    Condition,
    DeclaredCondition,
    UnknownCondition,
)
from statebridge.records import CellResult, DatasetRow, LaneResult, ResultSet
from statebridge.results.training_overlap import read_overlap, row_facts
from statebridge.runs.directory import (
    DATASET,
    MANIFEST,
    POSITIVE_CONTROL,
    ROWS,
    TAUGHT_PAIR,
    read_lane,
    read_manifest,
    whole_groups,
)
from statebridge.scoring.conventions import row_convention, row_correct


def read_run(path: str | Path) -> ResultSet:
    """Read a run directory, finished or not; lanes are in the order of the dataset.

    Only whole groups are read; a cell that the plan gives no row is left out.
    `prediction_changed` and `first_changed_token` are worked out here, from the new tokens that
    the receiver gives to the same prompt when nothing is written (`no_inject`, `question_only`);
    so is `task_correct`, where the dataset's rows name a scoring convention.

    Raises:
        ResultError: Not a run directory, or its files contradict each other.
    """
    path = Path(path)
    manifest = read_manifest(path)
    if manifest is None:
        raise ResultError(f"{path}: no {MANIFEST}; give a directory that `statebridge run` wrote")
    dataset = {row.row_id: row for row in read_jsonl(path / DATASET, FieldMap(id="id"))}
    try:
        lanes = _read_lanes(path / ROWS, manifest["plan"]["lanes"])
        # A strict shuffle over rows whose prompt lengths are all their own has no rows to run.
        planned = [cell for cell in manifest["cells"] if cell["rows"] > 0]
        _check_known(path, lanes, {cell["name"] for cell in planned}, dataset)
        cells = [_cell(path, manifest, cell, lanes, dataset) for cell in planned]
        overlap, row_ids = read_overlap(manifest), list(dataset)
        for cell in cells:
            cell.row_facts = row_facts(overlap, cell.condition, row_ids)
    except (KeyError, TypeError) as error:
        raise ResultError(
            f"{path / MANIFEST}: lacks {error}; give a directory that `statebridge run` wrote"
        ) from None
    results = ResultSet(
        cells=cells,
        dataset=dataset,
        manifest=manifest,
        cautions=tuple(_cautions(manifest, cells)),
        positive_control=_run_inside(path / POSITIVE_CONTROL),
        taught_pair=_run_inside(path / TAUGHT_PAIR),
    )
    _mark_changes(results)
    _mark_correct(results)
    return results


def _run_inside(path: Path) -> ResultSet | None:
    return read_run(path) if (path / MANIFEST).is_file() else None


def _read_lanes(path: Path, lane_counts: Sequence[int]) -> dict[str, dict[str, LaneResult]]:
    lanes: dict[str, dict[str, LaneResult]] = {}
    if not path.exists():
        return lanes
    _, end = whole_groups(path, lane_counts)
    with path.open("rb") as stream:
        offset = 0
        for number, line in enumerate(stream, start=1):
            offset += len(line)
            if offset > end:
                break
            try:
                _, cell, row = read_lane(line)
            except (ValueError, KeyError, TypeError) as error:
                raise ResultError(f"{path}, line {number}: not a committed row: {error}") from None
            of_cell = lanes.setdefault(cell, {})
            if row.row_id in of_cell:
                raise ResultError(
                    f"{path}, line {number}: row {row.row_id} of cell {cell} is there twice"
                )
            of_cell[row.row_id] = row
    return lanes


def _check_known(
    path: Path,
    lanes: Mapping[str, Mapping[str, LaneResult]],
    cells: set[str],
    dataset: Mapping[str, DatasetRow],
) -> None:
    """Refuse committed rows of a cell or a row that the directory does not know."""
    for cell, rows in lanes.items():
        if cell not in cells:
            raise ResultError(f"{path / ROWS}: rows of cell {cell}, which the manifest lacks")
        stranger = next((row_id for row_id in rows if row_id not in dataset), None)
        if stranger is not None:
            raise ResultError(
                f"{path / ROWS}: row {stranger} of cell {cell} is not in {DATASET}; the "
                "directory's files belong to different runs"
            )


def _cell(
    path: Path,
    manifest: Mapping[str, Any],
    declared: Mapping[str, Any],
    lanes: Mapping[str, Mapping[str, LaneResult]],
    dataset: Mapping[str, DatasetRow],
) -> CellResult:
    experiment = manifest["experiment"]
    found = lanes.get(declared["name"], {})
    excluded = declared["excluded_rows"]
    donors = declared.get("donors")
    return CellResult(
        condition=_condition(declared["condition"]),
        seed=declared["seed"],
        direction=experiment["direction"],
        lanes=[found[row_id] for row_id in dataset if row_id in found],
        source=path,
        dataset_sha256=manifest["dataset"]["sha256"],
        decoding=experiment["decoding"],
        models=manifest["pair"],
        complete=len(found) == declared["rows"],
        source_rows=len(dataset),
        excluded_rows=excluded,
        same_answer_donors=None if donors is None else frozenset(donors["same_answer"]),
    )


def _condition(declared: Mapping[str, Any]) -> DeclaredCondition:
    try:
        return Condition.model_validate(declared)
    except ValidationError:  # of another version of Statebridge, or of a plug-in
        private = (prompt for prompt in PRIVATE_PROMPTS if prompt == declared.get("prompt"))
        return UnknownCondition(declared["name"], next(private, "task"))


def _cautions(manifest: Mapping[str, Any], cells: Sequence[CellResult]) -> Iterator[str]:
    yield from manifest.get("cautions", ())
    declared = (cell.condition for cell in cells)
    unknown = dict.fromkeys(c.name for c in declared if isinstance(c, UnknownCondition))
    if unknown:
        added = ", ".join(manifest.get("added_parts") or ())
        yield (
            f"Not known here whether these conditions are channels or controls: "
            f"{', '.join(unknown)}. "
            + (
                f"Give the file that adds {added} with --plugin"
                if added
                else "Read the run with the version of Statebridge that wrote it"
            )
            + "."
        )


def _mark_changes(results: ResultSet) -> None:
    floors = [results.floor(cell) for cell in results.cells]
    tokens = {
        floor.name: {row.row_id: row.token_ids for row in floor.lanes}
        for floor in floors
        if floor is not None
    }
    for cell, floor in zip(results.cells, floors, strict=True):
        if floor is not None:
            by_id = tokens[floor.name]
            cell.lanes = [_marked(row, by_id.get(row.row_id)) for row in cell.lanes]


def _mark_correct(results: ResultSet) -> None:
    dataset = results.dataset
    conventions = {row_id: row_convention(row) for row_id, row in dataset.items()}
    named = ((row_id, attribute_names(row, ALIASES)) for row_id, row in dataset.items())
    aliases = {row_id: names for row_id, names in named if names}
    for cell in results.cells:
        cell.aliases = aliases
        cell.lanes = [
            row
            if row.prediction is None or conventions[row.row_id] is None
            else replace(row, task_correct=row_correct(row.prediction, dataset[row.row_id]))
            for row in cell.lanes
        ]


def _marked(row: LaneResult, baseline: tuple[int, ...] | None) -> LaneResult:
    if row.token_ids is None or baseline is None:
        return row
    first = first_difference(row.token_ids, baseline)
    return replace(row, prediction_changed=first is not None, first_changed_token=first)


def first_difference(tokens: Sequence[int], others: Sequence[int]) -> int | None:
    """Return the first index at which two token sequences differ; None if they are equal."""
    for index, (token, other) in enumerate(zip(tokens, others, strict=False)):
        if token != other:
            return index
    return None if len(tokens) == len(others) else min(len(tokens), len(others))
