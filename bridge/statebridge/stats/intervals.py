"""Intervals with rows as clusters: the default.

Several seeds of one row are not independent, so a row's deltas are first averaged over its
seeds and the rows are what is resampled. The inference is to other rows, with these seeds.

For a 0/1 metric the bootstrap is unreliable where few rows differ: a resample may hold none
of them. Two pseudo-rows, one gained and one lost, are therefore added to the sample that is
resampled (never to the delta that is reported), the adjustment of Bonett and Price, "Adjusted
Wald confidence interval for a difference of binomial proportions based on paired data",
Journal of Educational and Behavioral Statistics 37 (2012). With fewer than `SPARSE_ROWS` rows
that differ, its Wald interval is used as it is. tests/bridge/stats/test_coverage.py measures
what the intervals cover.

Every bootstrap and permutation draws from its own generator, keyed by what it is about
(direction, condition, baseline, metric, ...): the order of files, rows, calls and threads never
matters, and one more cell never changes another cell's draws.
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

from statebridge.stats.comparison import RESAMPLES, Interval, IntervalKind


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

SPARSE_ROWS = 10
_MULTINOMIAL_VALUES = 64
"""Up to so many distinct rows, drawing their counts is faster than drawing row by row."""
_BLOCK = 500


def mean_and_sd(values: Floats) -> tuple[float, float]:
    """Return mean and sample standard deviation (0 for one value), whatever the order."""
    mean = math.fsum(values) / len(values)
    if len(values) < 2 or (values == values[0]).all():
        return mean, 0.0
    squares = math.fsum((values - mean) ** 2)
    return mean, math.sqrt(squares / (len(values) - 1))


def with_pseudo_rows(row_deltas: Floats) -> Floats:
    """Return the row deltas of a 0/1 metric and one gained and one lost pseudo-row."""
    return np.concatenate([row_deltas, [1.0, -1.0]])


def clustered_interval(
    row_deltas: Floats,
    generator: np.random.Generator,
    *,
    zero_one: bool,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    kind: IntervalKind = "studentised",
) -> Interval | None:
    """Return an interval for the mean of `row_deltas`, shape (rows,), one value per cluster.

    `zero_one` says that the metric is 0 or 1 per row, so that deltas lie in [-1, 1]. Returns
    None where the data give no interval: a single row, or a continuous metric whose deltas
    are all equal. The order of the rows does not matter.
    """
    if len(row_deltas) < 2:
        return None
    deltas = np.sort(row_deltas)
    constant = deltas[0] == deltas[-1]
    if zero_one and constant:
        return _exact_interval(float(deltas[0]), len(deltas), level)
    if constant:
        return None
    if zero_one and np.count_nonzero(deltas) < SPARSE_ROWS:
        return _adjusted_wald(deltas, level)
    if kind == "bca":
        low, high = bca_bounds(
            deltas[:, None], lambda means: means[..., 0], generator, level, resamples
        )
        return Interval(low=low, high=high, level=level, method="bca_bootstrap")
    sample = np.sort(with_pseudo_rows(deltas)) if zero_one else deltas
    low, high = _studentised_bounds(sample, generator, level, resamples)
    if zero_one:
        low, high = max(low, -1.0), min(high, 1.0)
    return Interval(low=low, high=high, level=level, method="studentised_bootstrap")


def deviating_share_bound(rows: int, alpha: float) -> float:
    """Return the largest share of deviating rows that seeing none of `rows` leaves possible.

    The exact (Clopper-Pearson) upper limit at one-sided level `alpha`.
    """
    return float(1.0 - alpha ** (1.0 / rows))


def _exact_interval(delta: float, rows: int, level: float) -> Interval:
    """All rows have the same delta, so the data only bound how many others might deviate."""
    share = deviating_share_bound(rows, (1.0 - level) / 2.0)
    low = delta - share * (1.0 + delta)
    high = delta + share * (1.0 - delta)
    return Interval(low=low, high=high, level=level, method="exact_binomial")


def _adjusted_wald(deltas: Floats, level: float) -> Interval:
    sample = with_pseudo_rows(deltas)
    mean = math.fsum(sample) / len(sample)
    variance = math.fsum(sample**2) / len(sample) - mean**2
    reach = float(stats.norm.ppf((1.0 + level) / 2.0)) * math.sqrt(variance / len(sample))
    return Interval(
        low=max(mean - reach, -1.0),
        high=min(mean + reach, 1.0),
        level=level,
        method="adjusted_wald",
    )


def _studentised_bounds(
    sample: Floats, generator: np.random.Generator, level: float, resamples: int
) -> tuple[float, float]:
    """The bootstrap-t interval of Efron and Tibshirani (1993), section 12.5."""
    rows = len(sample)
    mean, sd = mean_and_sd(sample)
    centred = sample - mean
    moments = bootstrap_means(np.stack([centred, centred**2], axis=1), generator, resamples)
    variance = np.maximum(moments[:, 1] - moments[:, 0] ** 2, 0.0) * (rows / (rows - 1))
    # A resample without any spread has no t; it is about as rare as exp(-rows that differ).
    varied = variance > 1e-12 * sd**2
    t_values = moments[varied, 0] / np.sqrt(variance[varied])
    low_t, high_t = np.quantile(t_values, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return mean - float(high_t) * sd, mean - float(low_t) * sd


def bca_bounds(
    columns: Floats,
    statistic: Callable[[Floats], Floats],
    generator: np.random.Generator,
    level: float = 0.95,
    resamples: int = RESAMPLES,
) -> tuple[float, float]:
    """Return the bias-corrected and accelerated interval of a statistic of column means.

    `columns` has shape (rows, k); `statistic` maps means of shape (..., k) to shape (...). The
    bounds are NaN where the statistic is for some resample.
    Source: B. Efron, "Better bootstrap confidence intervals", JASA 82 (1987).
    """
    rows = len(columns)
    columns = columns[np.lexsort(columns.T[::-1])]
    observed = float(statistic(columns.mean(axis=0)))
    drawn = statistic(bootstrap_means(columns, generator, resamples))
    tie = 1e-12 * max(1.0, abs(observed))
    below = np.count_nonzero(drawn < observed - tie)
    equal = np.count_nonzero(np.abs(drawn - observed) <= tie)
    share = (below + 0.5 * equal) / resamples
    bias = stats.norm.ppf(min(max(share, 0.5 / resamples), 1.0 - 0.5 / resamples))

    left_out = statistic((columns.sum(axis=0) - columns) / (rows - 1))
    influence = left_out.mean() - left_out
    spread = float((influence**2).sum())
    acceleration = float((influence**3).sum()) / (6.0 * spread**1.5) if spread > 0 else 0.0
    z = bias + stats.norm.ppf([(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    shares = np.asarray(stats.norm.cdf(bias + z / (1.0 - acceleration * z)))
    bounds = np.quantile(drawn, shares)
    return float(bounds[0]), float(bounds[1])


def bootstrap_means(columns: Floats, generator: np.random.Generator, resamples: int) -> Floats:
    """Return the column means of each resample of the rows, shape (resamples, k).

    `columns` has shape (rows, k) and should be sorted, so that the order in which rows came
    does not matter.
    """
    rows = len(columns)
    distinct, counts = np.unique(columns, axis=0, return_counts=True)
    if len(distinct) <= _MULTINOMIAL_VALUES:
        drawn = generator.multinomial(rows, counts / rows, size=resamples)
        return np.asarray(drawn @ distinct / rows, dtype=np.float64)
    means = np.empty((resamples, columns.shape[1]))
    for start in range(0, resamples, _BLOCK):
        stop = min(start + _BLOCK, resamples)
        drawn = generator.integers(0, rows, size=(stop - start, rows))
        for k in range(columns.shape[1]):
            means[start:stop, k] = columns[:, k].take(drawn).mean(axis=1)
    return means
