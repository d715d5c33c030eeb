"""Are the cells there, and the rows in them?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from statebridge.experiment.cells import cell_name
from statebridge.records import CellResult, Direction, ResultSet
from statebridge.validation.expectation import Expectation, ExpectedCondition
from statebridge.validation.report import Finding, finding, found_in


def cell_presence(results: ResultSet, expectation: Expectation) -> Iterator[Finding]:
    """Find cells that are missing, there twice, or not asked for."""
    wanted = {(expectation.direction, *cell) for cell in expectation.cells}
    found = Counter(map(_key, results.cells))
    for direction, condition, seed in wanted - set(found):
        name = cell_name(condition, seed)
        yield Finding(
            severity="blocking",
            check="missing_cell",
            cell=name,
            direction=direction,
            reason=f"missing; {expectation.name} expects it",
        )
    reported = set()
    for cell in results.cells:
        key = _key(cell)
        if key in reported:
            continue
        reported.add(key)
        if found[key] > 1:
            sources = sorted(str(c.source) for c in results.cells if _key(c) == key)
            yield finding(
                "blocking",
                "duplicate_cell",
                cell,
                f"there {found[key]} times ({', '.join(sources)}); give it once",
            )
        if key not in wanted:
            yield finding(
                "warning", "extra_cell", cell, f"extra; {expectation.name} does not ask for it"
            )


def _key(cell: CellResult) -> tuple[Direction, str, int | None]:
    return (cell.direction, cell.condition.name, cell.seed)


def row_presence(results: ResultSet, expectation: Expectation) -> Iterator[Finding]:
    """Find rows that are missing, unknown or there twice, and wrong exclusions."""
    known = {
        direction: _known_rows(results, expectation, direction)
        for direction in {cell.direction for cell in results.cells}
    }
    for cell in results.cells:
        expected = None
        if cell.direction == expectation.direction:
            expected = expectation.condition(cell.condition.name)
        yield from _duplicates(cell)
        yield from _rows_of(cell, expected, known[cell.direction])
        if expected is not None:
            yield from _exclusions(cell, expected)
    yield from _unequal_seeds(results)


def _known_rows(
    results: ResultSet, expectation: Expectation, direction: Direction
) -> frozenset[str]:
    """The rows of the dataset: as declared, as read, or as at least half of the cells have."""
    if expectation.row_ids is not None:
        return frozenset(expectation.row_ids)
    if results.dataset:
        return frozenset(results.dataset)
    cells = [cell for cell in results.cells if cell.direction == direction and cell.lanes]
    cells = [cell for cell in cells if not cell.excluded_rows] or cells
    # A row is in doubt where fewer than half of the cells have it: then it is the odd one.
    votes = Counter(row_id for cell in cells for row_id in {row.row_id for row in cell.lanes})
    return frozenset(row_id for row_id, count in votes.items() if 2 * count >= len(cells))


def _duplicates(cell: CellResult) -> Iterator[Finding]:
    counts = Counter(row.row_id for row in cell.lanes)
    twice = sorted(row_id for row_id, count in counts.items() if count > 1)
    yield from found_in("blocking", "duplicate_rows", cell, twice, "row(s) there more than once")


def _rows_of(
    cell: CellResult, expected: ExpectedCondition | None, known: frozenset[str]
) -> Iterator[Finding]:
    own = {row.row_id for row in cell.lanes}
    if not own:
        yield finding("blocking", "rows", cell, "holds no row")
        return
    unknown = sorted(own - known)
    yield from found_in("blocking", "rows", cell, unknown, "row(s) that the dataset lacks")
    wanted = len(known) - (cell.excluded_rows or 0)
    if expected is not None and expected.rows is not None:
        wanted = expected.rows
    missing = sorted(known - own)
    if len(cell.lanes) != wanted:
        # Which rows a cell that excludes some should have is not known: then none is named.
        named = missing if wanted >= len(known) else []
        yield finding(
            "blocking",
            "rows",
            cell,
            f"holds {len(cell.lanes)} rows, not {wanted}{'; missing' if named else ''}",
            named,
        )
    elif not cell.complete:
        yield finding("blocking", "rows", cell, "not complete: rows that it declares are missing")
    elif len(missing) > len(known) - wanted:
        yield finding("blocking", "rows", cell, f"{len(missing)} row(s) missing", missing)


def _exclusions(cell: CellResult, expected: ExpectedCondition) -> Iterator[Finding]:
    if expected.source_rows is None:
        return
    if cell.source_rows != expected.source_rows:
        yield finding(
            "blocking",
            "exclusions",
            cell,
            f"taken from {_number(cell.source_rows)} source rows, not {expected.source_rows}",
        )
    excluded = expected.excluded_rows
    if excluded is not None and cell.excluded_rows != excluded:
        yield finding(
            "blocking",
            "exclusions",
            cell,
            f"excludes {_number(cell.excluded_rows)} rows, not {excluded}",
        )


def _number(count: int | None) -> str:
    return "an unrecorded number of" if count is None else str(count)


def _unequal_seeds(results: ResultSet) -> Iterator[Finding]:
    """Find seeds with other rows: exclusions depend on the rows, never on the seed."""
    groups: dict[tuple[Direction, str], list[CellResult]] = {}
    for cell in results.cells:
        if cell.lanes:
            groups.setdefault((cell.direction, cell.condition.name), []).append(cell)
    for cells in groups.values():
        row_sets = [frozenset(row.row_id for row in cell.lanes) for cell in cells]
        for cell, rows in zip(cells[1:], row_sets[1:], strict=True):
            if rows != row_sets[0]:
                yield finding(
                    "blocking",
                    "unequal_seeds",
                    cell,
                    f"not the rows of {cells[0].name}; they differ in",
                    sorted(rows ^ row_sets[0]),
                )
