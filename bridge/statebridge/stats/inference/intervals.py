"""Intervals with rows as clusters: the default.

Several seeds of one row are not independent, so a row's deltas are first averaged over its
seeds, and the rows are the sample. The inference is to other rows, with these seeds.
`over_seeds` widens it to other rows and other seeds. `statebridge.stats.inference.means` has the
two methods, and docs/statistics.md what they cover.

A random draw is keyed by what it is about: the order of files, rows, calls and threads never
matters, and one more cell never changes another cell's numbers.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from os import cpu_count
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from scipy import stats

from statebridge.stats.comparison import RESAMPLES, Interval, IntervalMethod
from statebridge.stats.inference.means import BoundedMean, Mean, Resamples, is_constant


def keyed_generator(*names: object) -> np.random.Generator:
    """Return a PCG64 generator seeded with the SHA-256 of the names.

    The names are written as text and their lengths enter the hash, so ("a", "bc") and
    ("ab", "c") are different keys.
    """
    digest = hashlib.sha256()
    for name in names:
        text = str(name).encode()
        digest.update(f"{len(text)}:".encode())
        digest.update(text)
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest.digest(), "big")))


_MOST_THREADS = 8
_Item = TypeVar("_Item")
_Outcome = TypeVar("_Outcome")


def on_threads(compute: Callable[[_Item], _Outcome], items: Sequence[_Item]) -> list[_Outcome]:
    """Return `compute` of each item, in the order of the items.

    Raises:
        Exception: What `compute` raised for the first item that it failed on.
    """
    with ThreadPoolExecutor(max_workers=min(_MOST_THREADS, cpu_count() or 1)) as pool:
        return list(pool.map(compute, items))


Floats = npt.NDArray[np.float64]


def mean_and_sd(values: Floats) -> tuple[float, float]:
    """Return mean and sample standard deviation (0 for one value), whatever the order."""
    mean = math.fsum(values) / len(values)
    if len(values) < 2 or (values == values[0]).all():
        return mean, 0.0
    squares = math.fsum((values - mean) ** 2)
    return mean, math.sqrt(squares / (len(values) - 1))


FEW_LEAVING = 8
"""With fewer rows that leave the commonest delta, an interval is wider than its level needs."""
LEAST_SEEDS = 3
"""Two seeds say too little of how seeds differ: t is 12.7 with one degree of freedom."""


def mean_of(
    row_deltas: Floats, *, zero_one: bool, resamples: int = RESAMPLES, exact: bool = False
) -> Mean | None:
    """Return what rows show of their mean; `row_deltas` has shape (rows,), one value a cluster.

    `zero_one` states that the metric is 0 or 1 per row, so that deltas lie in [-1, 1]; `exact`
    takes exact binomial limits for it, for tests. None where the data show nothing: a single
    row, or a continuous metric whose deltas are all the same. The order of the rows does not
    matter.
    """
    if len(row_deltas) < 2:
        return None
    if zero_one:
        return BoundedMean(row_deltas, exact=exact)
    return None if is_constant(row_deltas) else Resamples(row_deltas[:, None], resamples).along([1])


def interval_of(mean: Mean | None, level: float, method: IntervalMethod) -> Interval | None:
    """Return the interval of a mean; None where the rows give none."""
    if mean is None:
        return None
    low, high = mean.limits(level)
    if not (math.isfinite(low) and math.isfinite(high)):
        return None
    return Interval(low=low, high=high, level=level, method=method)


def method_of(*, zero_one: bool) -> IntervalMethod:
    """Return the method of the intervals of a metric."""
    return "mover_mid_p" if zero_one else "studentised_bootstrap"


def clustered_interval(
    row_deltas: Floats, *, zero_one: bool, level: float = 0.95, resamples: int = RESAMPLES
) -> Interval | None:
    """Return an interval for the mean of `row_deltas`, shape (rows,); see `mean_of`."""
    mean = mean_of(row_deltas, zero_one=zero_one, resamples=resamples)
    return interval_of(mean, level, method_of(zero_one=zero_one))


def over_seeds(deltas: Floats, of_rows: Interval, *, zero_one: bool) -> Interval:
    """Return the interval for other rows and other seeds.

    The limits for other rows and those for other seeds (Student's t over the seeds' means, less
    what the rows' own noise adds to them) are combined by MOVER.

    Args:
        deltas: Shape (rows, seeds), at least `LEAST_SEEDS` seeds.
        of_rows: Interval for other rows with these seeds.
        zero_one: Whether the metric is 0 or 1 per row.
    """
    rows, seeds = deltas.shape
    mean = math.fsum(deltas.ravel()) / deltas.size
    by_row, by_seed = deltas.mean(axis=1, keepdims=True), deltas.mean(axis=0, keepdims=True)
    noise = float(((deltas - by_row - by_seed + mean) ** 2).sum()) / ((rows - 1) * (seeds - 1))
    variance = max(float(by_seed.var(ddof=1)) - noise / rows, 0.0) / seeds
    reach = float(stats.t.ppf((1.0 + of_rows.level) / 2.0, seeds - 1)) * math.sqrt(variance)
    low = mean - math.hypot(mean - of_rows.low, reach)
    high = mean + math.hypot(of_rows.high - mean, reach)
    if zero_one:
        low, high = max(low, -1.0), min(high, 1.0)
    return of_rows.model_copy(update={"low": low, "high": high, "holds_for": "rows_and_seeds"})


def rows_leaving(row_deltas: Floats) -> int:
    """Return the number of rows whose delta is not the commonest one."""
    return len(row_deltas) - int(np.unique(row_deltas, return_counts=True)[1].max())


def carrying_rows(row_deltas: Floats) -> int:
    """Return the fewest rows that make up half of the variance of the mean."""
    squares = np.sort((row_deltas - row_deltas.mean()) ** 2)[::-1]
    return 1 + int(np.searchsorted(np.cumsum(squares), squares.sum() / 2.0))
