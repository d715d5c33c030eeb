"""The interval of a share, after E. B. Wilson (1927)."""

from __future__ import annotations

from math import sqrt

from scipy.stats import norm

from statebridge.errors import ResultError


def wilson_interval(share: float, n: int, level: float = 0.95) -> tuple[float, float]:
    """Return the score interval of a share of `n` independent rows.

    The share need not be a whole number of rows: a mean over seeds has the interval of its
    rows, however many seeds there are, since seeds of one row are not independent.

    Raises:
        ResultError: No row, or `share` or `level` out of range.
    """
    if n < 1 or not 0 <= share <= 1 or not 0 < level < 1:
        raise ResultError(
            f"wilson interval: share {share} of {n} rows at level {level}; give a share from 0 to "
            "1 of at least one row, and a level between 0 and 1"
        )
    z = float(norm.ppf((1 + level) / 2))
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # At 0 and 1 one end is the share itself, which rounding must not pass.
    return max(0.0, min(centre - half, share)), min(1.0, max(centre + half, share))
