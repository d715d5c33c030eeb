"""The median over rows: limits by order statistics, which hold whatever is drawn from.

Of a metric without bounds, no method gives an interval for the mean that holds for every
distribution: a kind of row that is rare enough to be absent from most samples may carry the whole
mean, and the samples without it look the tamest (R. R. Bahadur and L. J. Savage, "The
nonexistence of certain statistical procedures in nonparametric problems", Annals of Mathematical
Statistics 27, 1956). The median has one. How many of n rows lie below it is Binomial(n, 1/2), so
its limits are two of the rows themselves. Nothing is drawn. The test beside it is the sign test.
Source: H. A. David and H. N. Nagaraja, "Order Statistics", 2003, section 7.1.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import scipy

_MOST_MISSED = 1.3
"""Rows are whole, so few levels can be had. An interval has the nearest of them that misses no more
than 1.3 times what its level allows: of one at 95 %, 93.5 to 97.2 % for 32 rows and more."""


def median_limits(
    deltas: npt.NDArray[np.float64], level: float, *, exact: bool = False
) -> tuple[float, float]:
    """Return two-sided limits of the median of row deltas, shape (rows,).

    With `exact` they have at least their level, otherwise about their level, whatever the
    distribution; where several rows are as the median is, more than that. Infinite where there
    are too few rows.
    """
    rows = len(deltas)
    allowed = (1.0 - level) / 2.0 + 1e-12
    # So many rows may lie beyond each limit: the most that are too few for half of all.
    beyond = int(scipy.stats.binom.ppf(allowed, rows, 0.5))
    missed, missed_less = (float(scipy.stats.binom.cdf(beyond - k, rows, 0.5)) for k in (0, 1))
    near = missed <= _MOST_MISSED * allowed and missed - allowed < allowed - missed_less
    if missed > allowed and (exact or not near):
        beyond -= 1
    if beyond < 0:
        return -math.inf, math.inf
    ordered = np.sort(deltas)
    return float(ordered[beyond]), float(ordered[rows - 1 - beyond])
