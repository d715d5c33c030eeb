"""Cost of each method of a run beside the share of rows that it got right."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean

import numpy as np

from statebridge.errors import ResultError
from statebridge.records import ResultSet
from statebridge.results.cost import ConditionCost, condition_costs
from statebridge.scoring import primary_metric, row_values
from statebridge.stats.inference.means import share_limits
from statebridge.stats.pairing import is_bounded


@dataclass(frozen=True, slots=True)
class MethodScore:
    """A method's cost, and the share of rows that it gets right."""

    cost: ConditionCost
    share: float
    """Mean over rows and seeds."""
    low: float
    high: float
    """Ends of the 95 % interval over rows, by mid-P."""
    rows: int


@dataclass(frozen=True, slots=True)
class MethodScores:
    """The methods of a run."""

    measure: str
    """Primary metric of the task, by which an answer is right."""
    methods: tuple[MethodScore, ...]


def method_scores(results: ResultSet) -> MethodScores:
    """Return cost and score of each method of a run, in the order of its cells.

    Raises:
        ResultError: As `condition_costs`; nothing was decoded.
    """
    costs = condition_costs(results)
    measure = _measure(results)
    return MethodScores(measure, tuple(_score(results, cost, measure) for cost in costs))


def _measure(results: ResultSet) -> str:
    primary = primary_metric(results)
    if not is_bounded(primary):
        raise ResultError(f"{primary} is no share of right answers; decode the run's texts")
    return primary


def _score(results: ResultSet, cost: ConditionCost, measure: str) -> MethodScore:
    cells = [cell for cell in results.cells if cell.condition.name == cost.condition]
    by_row: dict[str, list[float]] = {}
    for cell in cells:
        for row_id, value in row_values(cell, measure).items():
            by_row.setdefault(row_id, []).append(value)
    shares = np.array([fmean(values) for values in by_row.values()])
    low, high = share_limits(shares)
    return MethodScore(cost, fmean(shares.tolist()), low, high, len(by_row))
