"""One number for a condition of a run, with its interval: its score, its bits, its difference."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from statebridge.records import CellResult
from statebridge.scoring.aggregate import row_values
from statebridge.stats.comparison import Estimate
from statebridge.stats.inference.intervals import clustered_interval
from statebridge.stats.inference.means import Floats, share_limits
from statebridge.stats.pairing import is_bounded
from statebridge.tables import Range


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
    """Return the centre of the rows with its interval.

    It is the mean of a metric from 0 to 1, and the median of one without bounds, of whose mean no
    interval holds.
    """
    if values and is_bounded(metric):
        array = _array(values)
        return math.fsum(array) / len(array), Range(*share_limits(array)), len(array)
    return _centre(values, metric)


def paired(values: Mapping[str, float], others: Mapping[str, float], metric: str) -> Number:
    """Return the centre, over the rows of both, of `values` less `others`."""
    both = values.keys() & others.keys()
    return _centre({row_id: values[row_id] - others[row_id] for row_id in both}, metric)


def _centre(values: Mapping[str, float], metric: str) -> Number:
    if not values:
        return NOTHING
    array, bounded = _array(values), is_bounded(metric)
    interval = clustered_interval(array, bounded=bounded)
    centre = math.fsum(array) / len(array) if bounded else float(np.median(array))
    return centre, Range.of(interval), len(array)


def _array(values: Mapping[str, float]) -> Floats:
    return np.array([values[row_id] for row_id in sorted(values)])


def number_of(estimate: Estimate | None) -> Number:
    """Return an estimate of the statistics as cells."""
    if estimate is None:
        return NOTHING
    return estimate.value, Range.of(estimate.interval), estimate.n_rows
