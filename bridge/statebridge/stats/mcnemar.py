"""McNemar's test of a 0/1 metric between a condition and its baseline, on the same rows.

`gained` rows are right under the condition only, `lost` rows under the baseline only.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy import stats


def exact_mcnemar(gained: int, lost: int) -> float:
    """Return the two-sided exact p-value: gained ~ Binomial(gained + lost, 1/2)."""
    discordant = gained + lost
    return min(1.0, 2.0 * float(stats.binom.cdf(min(gained, lost), discordant, 0.5)))


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
        spread[:: int(size)] = stats.binom.pmf(np.arange(count + 1), count, 0.5)
        distribution = np.convolve(distribution, spread)
    totals = 2 * np.arange(total + 1) - total
    extreme = np.abs(totals) >= abs(int(row_sums.sum()))
    return min(1.0, float(distribution[extreme].sum()))
