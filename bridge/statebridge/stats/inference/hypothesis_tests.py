"""Tests of paired differences: McNemar, equivalence, many hypotheses.

McNemar's test is of a 0/1 metric between a condition and its baseline, on the same rows:
`gained` rows are right under the condition only, `lost` rows under the baseline only.

Equivalence (is the difference within a declared margin?) is by two one-sided tests (TOST,
D. J. Schuirmann, 1987), rows as clusters, each row's deltas averaged over its seeds first. By
default they are the exact ones of the mean of a metric from 0 to 1 (`inference.means`); of a mean
without bounds no test holds, and a median within a margin may hide a third of the rows beyond it.
The published reanalysis takes mean over standard error against the normal distribution, which
declares equivalence too often where a condition only loses rows (7 to 9 % at a nominal 5 % with
396 rows).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt
import scipy

from statebridge.stats.comparison import (
    Equivalence,
    Interval,
    MarginVerdict,
)
from statebridge.stats.inference.intervals import Floats, clustered_interval, mean_and_sd
from statebridge.stats.inference.means import BoundedMean


def exact_mcnemar(gained: int, lost: int) -> float:
    """Return the two-sided exact p-value: gained ~ Binomial(gained + lost, 1/2)."""
    discordant = gained + lost
    return min(1.0, 2.0 * float(scipy.stats.binom.cdf(min(gained, lost), discordant, 0.5)))


def continuity_corrected_mcnemar(gained: int, lost: int) -> float:
    """Return the p-value of McNemar's chi-square with continuity correction (published mode)."""
    discordant = gained + lost
    if discordant == 0:
        return 1.0
    chi_square = max(abs(gained - lost) - 1, 0) ** 2 / discordant
    return math.erfc(math.sqrt(chi_square / 2.0))


def exact_mcnemar_over_seeds(row_sums: npt.NDArray[np.int64]) -> float:
    """Return the two-sided exact p-value of McNemar's test with rows as clusters.

    `row_sums`, shape (rows,), holds each row's deltas (-1, 0, +1) summed over the seeds.
    Under the null hypothesis a row's sum is as likely to be +k as -k, independently of the
    other rows; the distribution of the total under all sign flips is computed exactly, so
    nothing is drawn. With one seed it is `exact_mcnemar`. With several it is exact where
    row sums are symmetric about zero, and valid for large samples otherwise.
    """
    sizes = np.abs(row_sums)
    total = int(sizes.sum())
    if total == 0:
        return 1.0
    # Distribution of X, the summed size of the rows that come out positive; the total is 2X - T.
    distribution = np.ones(1)
    for size, count in zip(*np.unique(sizes[sizes > 0], return_counts=True), strict=True):
        spread = np.zeros(int(size * count) + 1)
        spread[:: int(size)] = scipy.stats.binom.pmf(np.arange(count + 1), count, 0.5)
        distribution = np.convolve(distribution, spread)
    totals = 2 * np.arange(total + 1) - total
    extreme = np.abs(totals) >= abs(int(row_sums.sum()))
    return min(1.0, float(distribution[extreme].sum()))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's step-down adjusted p-values, in the order given.

    Source: S. Holm, "A simple sequentially rejective multiple test procedure",
    Scandinavian Journal of Statistics 6 (1979).
    """
    adjusted = [0.0] * len(p_values)
    running = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = running
    return adjusted


def holm_by_family(
    p_values: Sequence[float | None], families: Sequence[Hashable]
) -> list[float | None]:
    """Return Holm's adjusted p-values within each family; None stays None and does not count."""
    members: dict[Hashable, list[int]] = defaultdict(list)
    for index, (p, family) in enumerate(zip(p_values, families, strict=True)):
        if p is not None:
            members[family].append(index)
    adjusted: list[float | None] = [None] * len(p_values)
    for indices in members.values():
        raw = [p for index in indices if (p := p_values[index]) is not None]
        for index, p in zip(indices, holm(raw), strict=True):
            adjusted[index] = p
    return adjusted


def cohens_dz(mean: float, standard_deviation: float) -> float | None:
    """Return Cohen's d_z, the mean paired delta over the deltas' standard deviation.

    The usual effect size of a paired design; None where the deltas do not vary.
    """
    return mean / standard_deviation if standard_deviation > 0 else None


def discordant_odds_ratio(gained: int, lost: int) -> float | None:
    """Return gained / lost, the conditional odds ratio that McNemar's test is about.

    None where no row was lost (the ratio is infinite, or undefined when none was gained).
    """
    return gained / lost if lost else None


def tost(
    row_deltas: Floats, margins: Sequence[float], *, alpha: float = 0.05
) -> Equivalence | None:
    """Test whether the mean of `row_deltas`, shape (rows,), lies within each ± margin.

    Of a metric from 0 to 1; of one without bounds no such test holds. None for a single row.
    """
    interval = clustered_interval(row_deltas, bounded=True, level=1.0 - 2.0 * alpha, exact=True)
    if interval is None:
        return None
    mean = BoundedMean(row_deltas, exact=True)
    p_values = [max(mean.p_above(-margin), mean.p_below(margin)) for margin in margins]
    return _outcome(interval, p_values, margins, alpha)


def published_tost(
    row_deltas: Floats, margins: Sequence[float], *, alpha: float = 0.05
) -> Equivalence | None:
    """Test equivalence as the published reanalysis does; None for one row or no variance."""
    if len(row_deltas) < 2:
        return None
    deltas = np.sort(row_deltas)
    if deltas[0] == deltas[-1]:
        return None
    mean, sd = mean_and_sd(deltas)
    error = sd / math.sqrt(len(deltas))
    reach = float(scipy.stats.norm.ppf(1.0 - alpha)) * error
    p_values = [float(scipy.stats.norm.sf((margin - abs(mean)) / error)) for margin in margins]
    interval = Interval(
        low=mean - reach, high=mean + reach, level=1.0 - 2.0 * alpha, method="tost_normal"
    )
    return _outcome(interval, p_values, margins, alpha)


def _outcome(
    interval: Interval, p_values: Sequence[float], margins: Sequence[float], alpha: float
) -> Equivalence:
    return Equivalence(
        alpha=alpha,
        interval=interval,
        margins=tuple(
            MarginVerdict(margin=margin, p=p, equivalent=p < alpha)
            for margin, p in zip(margins, p_values, strict=True)
        ),
        ruled_out=max(abs(interval.low), abs(interval.high)),
    )
