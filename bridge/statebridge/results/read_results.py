"""Sources of results: run directories and other programs' files, read into one result set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from statebridge.data.jsonl import read_jsonl
from statebridge.errors import ResultError
from statebridge.records import CellResult, DatasetRow, ResultSet
from statebridge.results.formats import RESULT_FORMATS, ResultFormat
from statebridge.results.run_results import read_run
from statebridge.runs.directory import MANIFEST


def read_sources(
    paths: Sequence[str | Path], *, strict: bool = True, dataset: str | Path | None = None
) -> ResultSet:
    """Read run directories and result files of other formats into one result set.

    Its positive controls are those of the first run that has them.

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
    sets = [read_run(path) for path in runs]
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
        positive_control=next(filter(None, controls), None),
        taught_pair=next(filter(None, taught), None),
    )


def _by_format(paths: Sequence[Path]) -> list[tuple[ResultFormat, list[Path]]]:
    """Group paths by format; the first format says what is wrong with those that none has."""
    formats = RESULT_FORMATS.values()
    groups: dict[int, list[Path]] = {}
    for path in paths:
        place = next((i for i, one in enumerate(formats) if one.recognises(path)), 0)
        groups.setdefault(place, []).append(path)
    return [(formats[place], files) for place, files in groups.items()]
