"""Sources of results: run directories and other programs' files, read into one result set."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from statebridge.data.jsonl import read_jsonl
from statebridge.errors import ResultError
from statebridge.experiment.conditions import Condition
from statebridge.records import CellResult, DatasetRow, ResultSet
from statebridge.results.formats import RESULT_FORMATS, ReadableFormat
from statebridge.results.run_results import read_run
from statebridge.runs.directory import MANIFEST


def read_sources(
    paths: Sequence[str | Path], *, strict: bool = True, dataset: str | Path | None = None
) -> ResultSet:
    """Read run directories and result files of other formats into one result set.

    Its positive controls are those of the first run that has them. Where two runs have a cell of
    one name, as at two pairs of layers, a cell with the same lanes is read once, and the conditions
    of others get the name of their run: `replace@layer20`.

    Args:
        paths: Run directories, published result files, or folders of them.
        strict: False lets duplicated rows and cells through, for a validation that
            reports them all.
        dataset: JSONL rows that result files are about; a run directory has its own.

    Raises:
        ResultError: Nothing given, a source that is neither, or (strict) one cell in two
            sources, or two datasets that disagree on a row.
    """
    if not paths:
        raise ResultError("no source given; name a run directory or published result files")
    runs = [Path(path) for path in paths if (Path(path) / MANIFEST).is_file()]
    others = [Path(path) for path in paths if not (Path(path) / MANIFEST).is_file()]
    for path in others:
        _check_source(path)
    sets = _told_apart([read_run(path) for path in runs]) if strict else list(map(read_run, runs))
    if others:
        about = {} if dataset is None else {row.row_id: row for row in read_jsonl(dataset)}
        for result_format, files in _by_format(others):
            found = result_format.read(files, strict=strict)
            sets.append(ResultSet(cells=found.cells, dataset=about))
    cells: dict[tuple[str, str], CellResult] = {}
    kept: list[CellResult] = []
    rows: dict[str, DatasetRow] = {}
    for results in sets:
        for cell in results.cells:
            earlier = cells.setdefault((cell.direction, cell.name), cell)
            if earlier is not cell and strict:
                raise ResultError(
                    f"{cell.source}: cell {cell.name} ({cell.direction}) is also in "
                    f"{earlier.source}; give one of the two"
                )
            kept.append(cell)
        for row_id, row in results.dataset.items():
            if rows.setdefault(row_id, row) != row:
                raise ResultError(
                    f"row {row_id} differs between the sources' datasets; compare runs over the "
                    "same dataset"
                )
    manifest = sets[0].manifest if len(sets) == 1 else None
    controls = [results.positive_control for results in sets]
    taught = [results.taught_pair for results in sets]
    return ResultSet(
        cells=kept,
        dataset=rows,
        manifest=manifest,
        cautions=tuple(dict.fromkeys(text for results in sets for text in results.cautions)),
        positive_control=next(filter(None, controls), None),
        taught_pair=next(filter(None, taught), None),
    )


def _check_source(path: Path) -> None:
    """Refuse what holds no results, in words that say what it is.

    Raises:
        ResultError: A folder without results, or an experiment file.
    """
    if path.is_dir() and not any(path.rglob("*.json")):
        raise ResultError(
            f"{path}: holds no results; give a directory that `statebridge run` wrote, or a folder "
            "of result files"
        )
    if path.suffix.lower() in (".yaml", ".yml"):
        raise ResultError(
            f"{path}: is an experiment, not its results; give the directory that "
            f"`statebridge run {path} --out DIRECTORY` writes"
        )


def _told_apart(sets: Sequence[ResultSet]) -> list[ResultSet]:
    """Return runs whose cells have names of their own; see `read_sources`."""
    if len({_identity(results) for results in sets}) < 2:
        return list(sets)  # one run, given twice or in parts
    seen: dict[tuple[str, str], CellResult] = {}
    clashing: set[tuple[str, str]] = set()
    for results in sets:
        left = []
        for cell in results.cells:
            place = cell.direction, cell.name
            earlier = seen.setdefault(place, cell)
            if earlier is cell or not _same_lanes(earlier, cell):
                left.append(cell)
                clashing |= set() if earlier is cell else {(cell.direction, cell.condition.name)}
        results.cells = left
    names = _short_names([results.cells[0].source for results in sets if results.cells])
    for cell in (cell for results in sets for cell in results.cells):
        if (cell.direction, cell.condition.name) in clashing:
            own = f"{cell.condition.name}@{names[cell.source]}"
            cell.condition = (
                cell.condition.model_copy(update={"name": own})
                if isinstance(cell.condition, Condition)
                else replace(cell.condition, name=own)
            )
    return list(sets)


def _identity(results: ResultSet) -> str:
    """Return what a run is, but for its rows and its name, as one text."""
    manifest = dict(results.manifest or {})
    experiment = {
        key: value
        for key, value in manifest.get("experiment", {}).items()
        if key not in {"name", "limit", "seeds", "conditions"}
    }
    parts = [experiment, *(manifest.get(key) for key in ("pair", "path"))]
    return json.dumps(parts, sort_keys=True, default=str)


def _same_lanes(one: CellResult, other: CellResult) -> bool:
    """Whether two cells hold one and the same work: what no layer changes, done twice.

    Of two runs measured values may differ in their last digits, tokens may not.
    """

    def tokens(cell: CellResult) -> list[tuple[Any, ...]]:
        return [
            (lane.row_id, lane.token_ids, lane.prediction, lane.gold_rank) for lane in cell.lanes
        ]

    same = (one.condition, one.dataset_sha256, one.decoding) == (
        other.condition,
        other.dataset_sha256,
        other.decoding,
    )
    return same and not one.condition.writes and tokens(one) == tokens(other)


def _short_names(paths: Sequence[Path]) -> dict[Path, str]:
    """Return the name of each path, with its parent's where two have one name."""
    names = [path.absolute().name for path in paths]
    if len(set(names)) == len(names):
        return dict(zip(paths, names, strict=True))
    return {path: "/".join(path.absolute().parts[-2:]) for path in paths}


def _by_format(paths: Sequence[Path]) -> list[tuple[ReadableFormat, list[Path]]]:
    """Group paths by format; the first format says what is wrong with those that none has."""
    formats = [one for one in RESULT_FORMATS.values() if isinstance(one, ReadableFormat)]
    groups: dict[int, list[Path]] = {}
    for path in paths:
        place = next((i for i, one in enumerate(formats) if one.recognises(path)), 0)
        groups.setdefault(place, []).append(path)
    return [(formats[place], files) for place, files in groups.items()]
