"""Intervals with rows as clusters: the default.

Several seeds of one row are not independent, so a row's deltas are first averaged over its
seeds, and the rows are the sample. The inference is to other rows, with these seeds.
`over_seeds` widens it to other rows and other seeds. A metric from 0 to 1 has an interval for its
mean (`inference.means`), one without bounds for its median (`inference.medians`);
docs/statistics.md has what they cover.

A random draw is keyed by what it is about: the order of files, rows and calls never
matters, and one more cell never changes another cell's numbers.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np
import numpy.typing as npt
import scipy

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
    method: IntervalMethod = "median_order_statistics"
    if bounded:
        mean = BoundedMean(row_deltas, exact=exact)
        low, high = mean.limits(level)
        method = "mover_exact" if exact else "mover_mid_p"
        if mean.one_sided:
            method = "proportion_exact"
    else:
        low, high = median_limits(row_deltas, level, exact=exact)
    if math.isinf(low) or low == high:
        return None
    return Interval(low=low, high=high, level=level, method=method)


def over_seeds(deltas: Floats, of_rows: Interval) -> Interval:
    """Return the interval of a bounded metric's mean for other rows and other seeds.

    The variance of the mean is that of the rows' own effects and that of the seeds' means. The
    limits of the first are those for other rows, less the part that is the rows' noise under each
    seed; those of the second are Student's t over the seeds' means. The two are combined by MOVER,
    and are at least the limits for other rows. In the variance of the seeds' means, 1 / seeds of
    the noise is left out: with less left out, three seeds that do not differ cover 98.7 %, and
    with all of it, seeds that differ a little more than noise cover 91 % (docs/statistics.md).
    Source: G. Y. Zou and A. Donner as in `inference.means`; the variances are those of the two-way
    table (H. Scheffé, "The Analysis of Variance", 1959, chapter 7).

    Args:
        deltas: Shape (rows, seeds), at least `LEAST_SEEDS` seeds.
        of_rows: Interval for other rows with these seeds.
    """
    rows, seeds = deltas.shape
    mean = math.fsum(deltas.ravel()) / deltas.size
    by_row, by_seed = deltas.mean(axis=1, keepdims=True), deltas.mean(axis=0, keepdims=True)
    noise = float(((deltas - by_row - by_seed + mean) ** 2).sum()) / ((rows - 1) * (seeds - 1))
    of_row_means = seeds * float(by_row.var(ddof=1))
    own = max(1.0 - noise / of_row_means, 0.0) if of_row_means > 0.0 else 0.0
    variance = max(float(by_seed.var(ddof=1)) - noise / rows / seeds, 0.0) / seeds
    reach = float(scipy.stats.t.ppf((1.0 + of_rows.level) / 2.0, seeds - 1)) * math.sqrt(variance)

    def with_seeds(of_rows: float) -> float:
        return max(of_rows, math.hypot(math.sqrt(own) * of_rows, reach))

    low = max(mean - with_seeds(mean - of_rows.low), -1.0)
    high = min(mean + with_seeds(of_rows.high - mean), 1.0)
    return of_rows.model_copy(update={"low": low, "high": high, "holds_for": "rows_and_seeds"})


def seeds_agree(deltas: Floats) -> bool:
    """Whether seeds that differ, deltas (rows, seeds), are not shown to by more than rows' noise.

    By the F test at 5 %. The interval over seeds may then be wider than its level needs.
    """
    rows, seeds = deltas.shape
    by_row, by_seed = deltas.mean(axis=1, keepdims=True), deltas.mean(axis=0, keepdims=True)
    noise = float(((deltas - by_row - by_seed + deltas.mean()) ** 2).sum())
    between = rows * float(by_seed.var(ddof=1)) * (rows - 1)
    freedom = (seeds - 1) * (rows - 1)
    ratio = between * (seeds - 1) / noise if noise > 0.0 else 0.0
    return (
        between > 0.0 and noise > 0.0 and float(scipy.stats.f.sf(ratio, seeds - 1, freedom)) > 0.05
    )


def rows_leaving(row_deltas: Floats) -> int:
    """Return the number of rows whose delta is not the commonest one."""
    return len(row_deltas) - int(np.unique(row_deltas, return_counts=True)[1].max())
