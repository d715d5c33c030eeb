"""From rows to scores: per row, per cell, and per condition over its seeds.

A row without a value (a null prediction, a number that was not measured) is left out of that
measure's mean, and every mean says over how many rows it was taken.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from statebridge.errors import NumericError, ResultError, nearest
from statebridge.experiment.cells import cell_name
from statebridge.records import CellResult, Direction, LaneResult
from statebridge.scoring.gold import Gold
from statebridge.scoring.measures import DEFAULT_MEASURES, MEASURES


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean over rows."""

    mean: float | None
    """None when no row has a value."""
    n: int
    """Rows with a value."""


@dataclass(frozen=True, slots=True)
class SeedMean:
    """A mean over the runs (seeds) of a condition."""

    mean: float | None
    """Mean of the runs' means, each run counted once; None when no run has a value."""
    sd: float | None
    """Sample standard deviation (divisor: runs less 1), as published; None below two runs."""
    runs: int
    """Runs with a value."""


@dataclass(frozen=True, slots=True)
class CellScore:
    """The scores of one cell."""

    condition: str
    seed: int | None
    direction: Direction
    source: Path
    row_ids: tuple[str, ...]
    values: Mapping[str, Mapping[str, float]]
    """Measure to row id to value; rows without a value are absent."""
    means: Mapping[str, Mean]
    missing_predictions: int
    """Rows whose prediction is null: in no text metric's mean."""

    @property
    def name(self) -> str:
        """`condition` or `condition/seedN`."""
        return cell_name(self.condition, self.seed)

    def table(self) -> list[dict[str, str | float | None]]:
        """Return one record per row: `row_id`, then each measure's value or None."""
        return [
            {"row_id": row_id, **{name: column.get(row_id) for name, column in self.values.items()}}
            for row_id in self.row_ids
        ]


@dataclass(frozen=True, slots=True)
class ConditionScore:
    """The scores of one condition over its seeds."""

    condition: str
    direction: Direction
    seeds: tuple[int | None, ...]
    n_rows: tuple[int, ...]
    """Rows of each run, in the order of `seeds`."""
    means: Mapping[str, SeedMean]
    missing_predictions: int


def row_values(cell: CellResult, measure: str) -> dict[str, float]:
    """Return row id to value of one measure; rows without a value are absent.

    Raises:
        ResultError: Unknown measure; the cell has no row, a row twice, or an empty gold.
        NumericError: A value is NaN or infinite.
    """
    _check_measures([measure])
    _check_rows(cell)
    return _column(cell, measure)


def lane_value(cell: CellResult, row: LaneResult, measure: str) -> float | None:
    """Return one lane's value of a measure; None where it has none.

    Raises:
        NumericError: The value is NaN or infinite.
    """
    how = MEASURES[measure]
    number: float | None
    if how.text is not None:
        gold = Gold(row.gold, cell.aliases.get(row.row_id, ()))
        number = None if row.prediction is None else how.text(row.prediction, gold)
    else:
        number = getattr(row, measure) if how.numbers is None else how.numbers(row)
    if number is not None and not math.isfinite(number):
        raise NumericError(
            f"{cell.source}: {cell.name}: row {row.row_id!r}: {measure} is {number}; "
            "a mean needs finite numbers"
        )
    return number


def score_cell(cell: CellResult, measures: Iterable[str] = DEFAULT_MEASURES) -> CellScore:
    """Score every row of a cell.

    Raises:
        ResultError: Unknown measure; the cell has no row, a row twice, or an empty gold.
        NumericError: A value is NaN or infinite.
    """
    _check_measures(measures)
    _check_rows(cell)
    values = {name: _column(cell, name) for name in measures}
    return CellScore(
        condition=cell.condition.name,
        seed=cell.seed,
        direction=cell.direction,
        source=cell.source,
        row_ids=tuple(row.row_id for row in cell.lanes),
        values=values,
        means={name: _mean(list(column.values())) for name, column in values.items()},
        missing_predictions=sum(row.prediction is None for row in cell.lanes),
    )


def score_conditions(cells: Iterable[CellScore]) -> list[ConditionScore]:
    """Return one score per (direction, condition), in order of first appearance.

    Raises:
        ResultError: Two cells have the same direction, condition and seed, or the cells of
            one condition were scored for different measures.
    """
    groups: dict[tuple[Direction, str], list[CellScore]] = {}
    for cell in cells:
        group = groups.setdefault((cell.direction, cell.condition), [])
        twin = next((other for other in group if other.seed == cell.seed), None)
        if twin is not None:
            raise ResultError(
                f"{cell.source}: {cell.name} ({cell.direction}) was already given in "
                f"{twin.source}; give each condition and seed once"
            )
        if group and group[0].means.keys() != cell.means.keys():
            raise ResultError(
                f"{cell.source}: {cell.name} was scored for other measures than "
                f"{group[0].name}; score both for the same ones"
            )
        group.append(cell)
    return [
        ConditionScore(
            condition=condition,
            direction=direction,
            seeds=tuple(cell.seed for cell in group),
            n_rows=tuple(len(cell.row_ids) for cell in group),
            means={
                name: _seed_mean([cell.means[name].mean for cell in group])
                for name in group[0].means
            },
            missing_predictions=sum(cell.missing_predictions for cell in group),
        )
        for (direction, condition), group in groups.items()
    ]


def _check_measures(measures: Iterable[str]) -> None:
    for name in measures:
        if name not in MEASURES:
            raise ResultError(f"unknown measure {name!r}; {nearest(name, MEASURES)}")


def _check_rows(cell: CellResult) -> None:
    if not cell.lanes:
        raise ResultError(f"{cell.source}: {cell.name} has no row; there is nothing to score")
    seen: set[str] = set()
    for row in cell.lanes:
        if row.row_id in seen:
            raise ResultError(f"{cell.source}: {cell.name}: row {row.row_id!r} is there twice")
        if not row.gold.strip():
            raise ResultError(
                f"{cell.source}: {cell.name}: row {row.row_id!r} has an empty gold answer"
            )
        seen.add(row.row_id)


def _column(cell: CellResult, measure: str) -> dict[str, float]:
    found = ((row.row_id, lane_value(cell, row, measure)) for row in cell.lanes)
    return {row_id: float(value) for row_id, value in found if value is not None}


def _mean(values: Sequence[float]) -> Mean:
    # fsum rounds once: the mean does not depend on the order of the rows.
    return Mean(math.fsum(values) / len(values) if values else None, len(values))


def _seed_mean(means: Sequence[float | None]) -> SeedMean:
    values = [mean for mean in means if mean is not None]
    sd = statistics.stdev(values) if len(values) > 1 else None
    return SeedMean(_mean(values).mean, sd, len(values))
