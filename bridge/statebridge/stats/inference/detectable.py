"""The smallest true difference that a test would have found, at the level that Holm leaves it.

Holm's correction compares the smallest of m p-values with alpha / m, so a difference is sure to
be found with some power only where the test finds it at that level. The sizes here are for
alpha / m; a difference whose family is found to hold other ones may be found at a smaller size.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
import scipy

from statebridge.stats.inference.intervals import Floats

_FEW = 12
_NEGLIGIBLE = 1e-7
"""Numbers of differing rows that are rarer than this are left out of a power."""


def detectable_median(deltas: Floats, *, alpha: float = 0.05, power: float = 0.80) -> float | None:
    """Return the smallest true median delta that the two-sided sign test would have found.

    The rows are taken to be spread around the median as they are now. The test needs some share of
    them on one side of zero to be found with probability `power`; the median that puts so many
    there is a quantile of the rows.

    Args:
        deltas: Row deltas, shape (rows,).
        alpha: Two-sided level of the test, such as 0.05 / 10 in a family of ten.
        power: Probability with which the difference is found.

    Returns:
        The larger of the sizes for a rise and for a fall; None where so few rows could find none.
    """
    excess = _smallest(len(deltas), 1.0, 1.0, alpha, power)
    if excess is None:
        return None
    around = deltas - np.median(deltas)
    low, high = np.quantile(around, [(1.0 - excess) / 2.0, (1.0 + excess) / 2.0])
    return float(max(-low, high)) or None


def detectable_share(
    row_sums: Floats, runs: int, *, alpha: float = 0.05, power: float = 0.80
) -> float | None:
    """Return the smallest true difference of a 0/1 metric that the exact test would have found.

    As many rows are taken to differ as did, and more where the difference itself needs them:
    a share d of rows, of which a share (1 + delta / d) / 2 is for the better. Over the binomial
    number of rows that differ, the power of McNemar's exact test is summed. Rows that differ
    under some seeds only enter as fewer rows of one size, with the same first two moments of
    the sign-flip test's total; where under `_FEW` rows differ, at least as still fewer rows that
    differ under all seeds, since the test is then held to wider limits.

    Args:
        row_sums: Deltas of each row summed over the runs, shape (rows,).
        runs: Number of runs (seeds).
        alpha: Two-sided level of the test, such as 0.05 / 10 in a family of ten.
        power: Probability with which the difference is found.

    Returns:
        The difference, above 0 and at most 1; None where so few rows could find none.
    """
    rows = len(row_sums)
    sizes = np.abs(row_sums)
    total, squares = float(sizes.sum()), float((sizes**2).sum())
    if total == 0:
        return _smallest(rows, 0.0, 1.0, alpha, power)
    found = _smallest(rows, total**2 / squares / rows, squares / total / runs, alpha, power)
    if np.count_nonzero(sizes) >= _FEW:
        return found
    whole = _smallest(rows, squares / runs**2 / rows, 1.0, alpha, power)
    return None if found is None or whole is None else max(found, whole)


@lru_cache(maxsize=256)
def _smallest(rows: int, differing: float, size: float, alpha: float, power: float) -> float | None:
    """The smallest difference that is found if a share of the rows differs, each by `size`."""

    def shortfall(delta: float) -> float:
        each = max(size, delta)
        share = min(1.0, max(differing, delta / each))
        return _power(rows, share, min(1.0, delta / (share * each)), alpha) - power

    if shortfall(1.0) < 0:
        return None
    return float(scipy.optimize.brentq(shortfall, 1e-9, 1.0, xtol=1e-6))


def _power(rows: int, share: float, balance: float, alpha: float) -> float:
    """The power of McNemar's exact test for `balance` = P(better) − P(worse) of differing rows."""
    fewest, most = (
        int(scipy.stats.binom.ppf(at, rows, share)) for at in (_NEGLIGIBLE, 1.0 - _NEGLIGIBLE)
    )
    differing = np.arange(fewest, most + 1)
    likely = scipy.stats.binom.pmf(differing, rows, share)
    # At most so many rows for the worse are significant; -1 where no number is.
    worse = _critical(rows, alpha)[differing]
    found = np.where(worse < 0, 0.0, scipy.stats.binom.cdf(worse, differing, (1.0 - balance) / 2.0))
    return float((likely * found).sum())


@lru_cache(maxsize=64)
def _critical(rows: int, alpha: float) -> npt.NDArray[np.int64]:
    """For 0 to `rows` differing rows, the most that may be for the worse at level `alpha`."""
    differing = np.arange(rows + 1)
    least = scipy.stats.binom.ppf(alpha / 2.0, differing, 0.5)
    least = np.where(scipy.stats.binom.cdf(least, differing, 0.5) > alpha / 2.0, least - 1, least)
    least[0] = -1
    return np.asarray(least, dtype=np.int64)
