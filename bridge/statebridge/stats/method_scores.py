"""Cost of each method of a run beside the share of rows that it got right."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from statistics import fmean

from scipy.stats import norm

from statebridge.errors import ResultError
from statebridge.records import ResultSet
from statebridge.results.cost import ConditionCost, condition_costs
from statebridge.scoring import row_values


def wilson_interval(share: float, n: int, level: float = 0.95) -> tuple[float, float]:
    """Return the score interval of a share of `n` independent rows.

    The share need not be a whole number of rows: a mean over seeds has the interval of its
    rows, however many seeds there are, since seeds of one row are not independent.

    Raises:
        ResultError: No row, or `share` or `level` out of range.
    """
    if n < 1 or not 0 <= share <= 1 or not 0 < level < 1:
        raise ResultError(
            f"wilson interval: share {share} of {n} rows at level {level}; give a share from 0 to "
            "1 of at least one row, and a level between 0 and 1"
        )
    z = float(norm.ppf((1 + level) / 2))
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # At 0 and 1 one end is the share itself, which rounding must not pass.
    return max(0.0, min(centre - half, share)), min(1.0, max(centre + half, share))


@dataclass(frozen=True, slots=True)
class MethodScore:
    """A method's cost, and the share of rows that it gets right."""

    cost: ConditionCost
    share: float
    """Mean over rows and seeds."""
    low: float
    high: float
    """Ends of the 95 % Wilson interval over rows."""
    rows: int


@dataclass(frozen=True, slots=True)
class MethodScores:
    """The methods of a run."""

    measure: str
    """Measure of a right answer: the task's own convention, or word-boundary containment."""
    methods: tuple[MethodScore, ...]


def method_scores(results: ResultSet) -> MethodScores:
    """Return cost and score of each method of a run, in the order of its cells.

    Raises:
        ResultError: As `condition_costs`; no row can be scored.
    """
    measure = _measure(results)
    costs = condition_costs(results)
    return MethodScores(measure, tuple(_score(results, cost, measure) for cost in costs))


def _measure(results: ResultSet) -> str:
    own = any(row.task_correct is not None for cell in results.cells for row in cell.lanes)
    return "task_correct" if own else "word_boundary_contains"


def _score(results: ResultSet, cost: ConditionCost, measure: str) -> MethodScore:
    cells = [cell for cell in results.cells if cell.condition.name == cost.condition]
    by_row: dict[str, list[float]] = {}
    for cell in cells:
        for row_id, value in row_values(cell, measure).items():
            by_row.setdefault(row_id, []).append(value)
    share = fmean(fmean(values) for values in by_row.values())
    low, high = wilson_interval(min(1.0, max(0.0, share)), len(by_row))
    return MethodScore(cost, share, low, high, len(by_row))
