"""Any runs side by side: what differs between them, and every condition's numbers in each."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from statebridge.errors import ResultError
from statebridge.figures.wording import metric_label
from statebridge.pages.score_view import primary_comparison
from statebridge.records import CellResult, ResultSet
from statebridge.results.by_condition import condition_cells, reading_order
from statebridge.scoring import primary_metric
from statebridge.stats.pairing import is_bounded
from statebridge.tables import Column, Table
from statebridge.tables.estimates import NOTHING, Number, number_of, paired, row_means, score
from statebridge.tables.table import NumberFormat, Value

_Numbers = dict[str, Number]
"""By condition."""

MOST_RUNS = 8
"""Runs beside each other: a table of more is read by nobody."""


@dataclass(frozen=True, slots=True)
class NamedRun:
    """A run to compare, under a name of its own."""

    name: str
    results: ResultSet


@dataclass(frozen=True, slots=True)
class SideBySide:
    """The tables of a comparison of runs."""

    tables: tuple[Table, ...]
    notes: tuple[str, ...]


def side_by_side(runs: Sequence[NamedRun]) -> SideBySide:
    """Return what differs between runs, and their scores, differences and bits by condition.

    Runs over the same rows are also compared with the first one, paired by row.

    Raises:
        ResultError: No run, or too many, or one without rows.
    """
    if not 1 <= len(runs) <= MOST_RUNS:
        raise ResultError(f"{len(runs)} runs to compare; choose 1 to {MOST_RUNS}")
    for run in runs:
        if not any(cell.lanes for cell in run.results.cells):
            raise ResultError(f"{run.name}: no row is committed yet")
    metric = _common_metric(runs)
    cells = [_by_condition(run.results) for run in runs]
    scores = [
        {name: score(row_means(of, metric), metric) for name, of in each.items()} for each in cells
    ]
    tables = [
        _what_differs(runs),
        _table(_title("Score", metric), runs, scores, signed=not is_bounded(metric)),
        *_paired(runs, cells, metric),
    ]
    bits, notes = _bits(runs)
    if any(bits):
        tables.append(_table("Bits a message above the floor, median row", runs, bits, signed=True))
    return SideBySide(tuple(table for table in tables if table is not None), tuple(notes))


def _title(what: str, metric: str) -> str:
    return f"{what} by {metric_label(metric)}, with 95 % intervals (rows as clusters)"


def _common_metric(runs: Sequence[NamedRun]) -> str:
    """Return the primary metric of all runs, or one that all of them have."""
    found = {primary_metric(run.results) for run in runs}
    if len(found) == 1:
        return found.pop()
    return "gold_logprob" if "gold_logprob" in found else "word_boundary_contains"


def _by_condition(results: ResultSet) -> dict[str, tuple[CellResult, ...]]:
    return {group.label: group.cells for group in condition_cells(results)}


def _what_differs(runs: Sequence[NamedRun]) -> Table | None:
    facts = [_facts(run.results.manifest or {}) for run in runs]
    names = dict.fromkeys(name for each in facts for name in each)
    rows = [(name, *(each.get(name) for each in facts)) for name in names]
    different = [row for row in rows if len(set(row[1:])) > 1]
    if not different:
        return None
    return Table(
        "What differs between the runs",
        (Column("field", "field"), *(Column(f"run_{i}", r.name) for i, r in enumerate(runs))),
        tuple(different),
    )


_ASIDE = frozenset({"name", "conditions", "expect", "prompts"})
"""Fields of an experiment whose difference says nothing, or too much for a cell of a table."""


def _facts(manifest: Mapping[str, Any]) -> dict[str, str]:
    facts: dict[str, str] = {}
    experiment = manifest.get("experiment", {})
    _flatten("", {k: v for k, v in experiment.items() if k not in _ASIDE}, facts)
    facts["rows"] = str(manifest.get("dataset", {}).get("rows", ""))
    facts["dataset SHA-256"] = str(manifest.get("dataset", {}).get("sha256", ""))[:12]
    facts["device"] = str(manifest.get("device", ""))
    _flatten("version of ", manifest.get("versions", {}), facts)
    return facts


def _flatten(prefix: str, values: Mapping[str, Any], into: dict[str, str]) -> None:
    for name, value in values.items():
        if isinstance(value, Mapping):
            _flatten(f"{prefix}{name}.", value, into)
        elif value is not None:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            into[f"{prefix}{name}"] = text if len(text) <= 60 else f"{text[:57]}..."


def _table(
    title: str, runs: Sequence[NamedRun], numbers: Sequence[_Numbers], *, signed: bool
) -> Table:
    """Return one row for each condition: for each run the number, its interval, its rows."""
    shown: list[Column] = [Column("condition", "condition")]
    form: NumberFormat = "signed" if signed else "fixed"
    for place, run in enumerate(runs):
        shown += [
            Column(f"value_{place}", run.name, "number", form, 3),
            Column(f"interval_{place}", "interval", "range", form, 3),
            Column(f"rows_{place}", "rows", "integer"),
        ]
    rows = []
    for condition in reading_order(name for each in numbers for name in each):
        cells: list[Value] = [condition]
        for each in numbers:
            cells += each.get(condition, NOTHING)
        rows.append(tuple(cells))
    return Table(title, tuple(shown), tuple(rows))


def _paired(
    runs: Sequence[NamedRun],
    cells: Sequence[Mapping[str, Sequence[CellResult]]],
    metric: str,
) -> list[Table]:
    """Compare each run over the rows of the first one with it, condition by condition."""
    first = runs[0]
    others = [
        place
        for place in range(1, len(runs))
        if runs[place].results.dataset and _same_rows(first.results, runs[place].results)
    ]
    numbers: list[_Numbers] = [
        {
            name: paired(row_means(of, metric), row_means(cells[0][name], metric), metric)
            for name, of in cells[place].items()
            if name in cells[0]
        }
        for place in others
    ]
    if not any(numbers):
        return []
    title = _title(f"Difference from {first.name}, paired by row,", metric)
    return [_table(title, [runs[place] for place in others], numbers, signed=True)]


def _same_rows(one: ResultSet, other: ResultSet) -> bool:
    """Whether two datasets share rows and agree on each row that they share."""
    shared = one.dataset.keys() & other.dataset.keys()
    return bool(shared) and all(one.dataset[row_id] == other.dataset[row_id] for row_id in shared)


def _bits(runs: Sequence[NamedRun]) -> tuple[list[_Numbers], list[str]]:
    found: list[_Numbers] = []
    notes: list[str] = []
    for run in runs:
        numbers: _Numbers = {}
        try:
            for one in primary_comparison(run.results).bits:
                numbers[one.condition] = number_of(one.bits)
        except ResultError as error:
            notes.append(f"{run.name}: no bits: {error}")
        found.append(numbers)
    return found, notes


def named(names: Sequence[tuple[str, str]]) -> list[str]:
    """Return a name for each run: its own, with its id where two have one name."""
    given = [name for name, _ in names]
    return [f"{name} ({key})" if given.count(name) > 1 else name for name, key in names]
