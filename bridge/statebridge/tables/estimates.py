"""One number for a condition of a run, with its interval: its score, its bits, its difference."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from statebridge.records import CellResult
from statebridge.scoring.aggregate import row_values
from statebridge.stats.comparison import Estimate
from statebridge.stats.inference.intervals import Floats, centre_value, clustered_interval
from statebridge.stats.inference.means import share_limits
from statebridge.stats.pairing import is_bounded
from statebridge.tables.table import Range


def row_means(cells: Sequence[CellResult], metric: str) -> dict[str, float]:
    """Return each row's value of a metric, averaged over the seeds of a condition."""
    by_row: dict[str, list[float]] = defaultdict(list)
    for cell in cells:
        for row_id, value in row_values(cell, metric).items():
            by_row[row_id].append(value)
    return {row_id: math.fsum(values) / len(values) for row_id, values in by_row.items()}


Number = tuple[float | None, Range | None, int | None]
"""Value, 95 % interval and rows: three cells of a table, empty where there is nothing."""

NOTHING: Number = (None, None, None)


def score(values: Mapping[str, float], metric: str) -> Number:
    """Return the mean over rows, with its interval where the metric is from 0 to 1.

    Of a metric without bounds no interval of a mean holds for every distribution.
    """
    if not values:
        return NOTHING
    array = _array(values)
    interval = Range(*share_limits(array)) if is_bounded(metric) else None
    return math.fsum(array) / len(array), interval, len(array)


def paired(values: Mapping[str, float], others: Mapping[str, float], metric: str) -> Number:
    """Return the centre, over the rows of both, of `values` less `others`: mean or median."""
    both = values.keys() & others.keys()
    if not both:
        return NOTHING
    array = _array({row_id: values[row_id] - others[row_id] for row_id in both})
    bounded = is_bounded(metric)
    interval = clustered_interval(array, bounded=bounded)
    return centre_value(array, bounded=bounded), Range.of(interval), len(array)


def _array(values: Mapping[str, float]) -> Floats:
    return np.array([values[row_id] for row_id in sorted(values)])


def number_of(estimate: Estimate | None) -> Number:
    """Return an estimate of the statistics as cells."""
    if estimate is None:
        return NOTHING
    return estimate.value, Range.of(estimate.interval), estimate.n_rows
