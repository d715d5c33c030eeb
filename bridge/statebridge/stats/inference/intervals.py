"""Intervals with rows as clusters: the default.

Several seeds of one row are not independent, so a row's deltas are first averaged over its
seeds, and the rows are the sample. The inference is to other rows, with these seeds.
`over_seeds` widens it to other rows and other seeds. A metric from 0 to 1 has an interval for its
mean (`inference.means`), one without bounds for its median (`inference.medians`);
docs/statistics.md has what they cover.

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

from statebridge.stats.comparison import Interval, IntervalMethod
from statebridge.stats.inference.means import BoundedMean, is_constant
from statebridge.stats.inference.medians import median_limits


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


FEW_LEAVING = 15
"""With fewer rows that leave the commonest delta, an interval may be wider than its level needs."""
LEAST_SEEDS = 3
"""Two seeds say too little of how seeds differ: t is 12.7 with one degree of freedom."""


def centre_value(row_deltas: Floats, *, bounded: bool) -> float:
    """Return the mean of bounded deltas, the median of others; shape (rows,), at least one."""
    return math.fsum(row_deltas) / len(row_deltas) if bounded else float(np.median(row_deltas))


def clustered_interval(
    row_deltas: Floats, *, bounded: bool, level: float = 0.95, exact: bool = False
) -> Interval | None:
    """Return an interval for the centre of `row_deltas`, shape (rows,), one value a cluster.

    `bounded` states that the metric is from 0 to 1, so that deltas lie in [-1, 1]: the centre is
    then the mean, otherwise the median. `exact` takes limits of at least the level, for tests.
    None where the rows show nothing: a single one, too few, or a median that most of them share.
    The order of the rows does not matter.
    """
    if len(row_deltas) < 2 or (not bounded and is_constant(row_deltas)):
        return None
    if bounded:
        low, high = BoundedMean(row_deltas, exact=exact).limits(level)
    else:
        low, high = median_limits(row_deltas, level, exact=exact)
    if math.isinf(low) or low == high:
        return None
    method: IntervalMethod = "median_order_statistics"
    if bounded:
        method = "mover_exact" if exact else "mover_mid_p"
    return Interval(low=low, high=high, level=level, method=method)


def over_seeds(deltas: Floats, of_rows: Interval) -> Interval:
    """Return the interval of a bounded metric's mean for other rows and other seeds.

    The limits for other rows and those for other seeds (Student's t over the seeds' means, less
    what the rows' own noise adds to them) are combined by MOVER.

    Args:
        deltas: Shape (rows, seeds), at least `LEAST_SEEDS` seeds.
        of_rows: Interval for other rows with these seeds.
    """
    rows, seeds = deltas.shape
    mean = math.fsum(deltas.ravel()) / deltas.size
    by_row, by_seed = deltas.mean(axis=1, keepdims=True), deltas.mean(axis=0, keepdims=True)
    noise = float(((deltas - by_row - by_seed + mean) ** 2).sum()) / ((rows - 1) * (seeds - 1))
    variance = max(float(by_seed.var(ddof=1)) - noise / rows, 0.0) / seeds
    reach = float(stats.t.ppf((1.0 + of_rows.level) / 2.0, seeds - 1)) * math.sqrt(variance)
    low = max(mean - math.hypot(mean - of_rows.low, reach), -1.0)
    high = min(mean + math.hypot(of_rows.high - mean, reach), 1.0)
    return of_rows.model_copy(update={"low": low, "high": high, "holds_for": "rows_and_seeds"})


def rows_leaving(row_deltas: Floats) -> int:
    """Return the number of rows whose delta is not the commonest one."""
    return len(row_deltas) - int(np.unique(row_deltas, return_counts=True)[1].max())
