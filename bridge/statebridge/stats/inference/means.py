"""The mean over rows of a bounded metric: limits at any level, and p-values that agree with them.

Interval, p-value and equivalence test come from one reference distribution, so that they cannot
contradict each other. docs/statistics.md has what they cover in simulations.

`BoundedMean`: deltas of a metric from 0 to 1, which lie in [-1, 1]. The mean is that of the gained
parts less that of the lost parts. Each part is a proportion: its limits are the mid-P binomial
ones, for the number of independent rows that its variance amounts to. The two are combined by the
method of variance estimates recovery (MOVER). It holds from no row gained to every row gained,
because the limits of a proportion do; no row is added and nothing is resampled.
Sources: G. Berry and P. Armitage, "Mid-P confidence intervals: a brief review", The Statistician
44 (1995); E. L. Korn and B. I. Graubard, "Confidence intervals for proportions with small
expected number of positive counts estimated from survey data", Survey Methodology 24 (1998);
R. G. Newcombe, "Improved confidence intervals for the difference between binomial proportions
based on paired data", Statistics in Medicine 17 (1998); G. Y. Zou and A. Donner, "Construction
of confidence limits about effect measures", Statistics in Medicine 27 (2008).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

Floats = npt.NDArray[np.float64]


_FEW = 0.15
"""Sum of squares by which a proportion's variance is taken to be nearer to the binomial one: with
few rows that differ, little is known of how far its seeds agree."""
_LEAST_ALPHA = 1e-12


class BoundedMean:
    """The mean of row deltas of a bounded metric, shape (rows,), in [-scale, scale].

    With `exact`, limits are Clopper and Pearson's instead of mid-P: a test then rejects no more
    often than its level, where mid-P does so on average only.
    """

    def __init__(self, deltas: Floats, *, scale: float = 1.0, exact: bool = False) -> None:
        self.value = math.fsum(deltas) / len(deltas)
        self._scale, self._exact = scale, exact
        self._gained = _Proportion(np.maximum(deltas, 0.0) / scale, exact)
        self._lost = _Proportion(np.maximum(-deltas, 0.0) / scale, exact)
        # No row is in both parts, so their covariance is the product of the means, negative.
        spread = self._gained.squares * self._lost.squares
        both = len(deltas) * self._gained.mean * self._lost.mean
        self._correlation = -both / math.sqrt(spread) if spread > 0 else 0.0

    def limits(self, level: float) -> tuple[float, float]:
        """Return the two-sided limits at a level, within [-scale, scale]."""
        alpha = (1.0 - level) / 2.0
        return self._low(alpha), self._high(alpha)

    def p_above(self, value: float) -> float:
        """Return the one-sided p that the mean is not above `value`."""
        if self.value <= value:
            return 1.0 - self.p_below(value) if self.value < value else 0.5
        return _root(lambda alpha: self._low(alpha) - value, _LEAST_ALPHA, 0.5)

    def p_below(self, value: float) -> float:
        """Return the one-sided p that the mean is not below `value`."""
        if self.value >= value:
            return 1.0 - self.p_above(value) if self.value > value else 0.5
        return _root(lambda alpha: value - self._high(alpha), _LEAST_ALPHA, 0.5)

    def _low(self, alpha: float) -> float:
        reach = self._reach(self._gained.below(alpha), self._lost.above(alpha))
        return max(self.value - reach, -self._scale)

    def _high(self, alpha: float) -> float:
        reach = self._reach(self._gained.above(alpha), self._lost.below(alpha))
        return min(self.value + reach, self._scale)

    def _reach(self, gained: float, lost: float) -> float:
        both = -2.0 * self._correlation * gained * lost
        return self._scale * math.sqrt(gained**2 + lost**2 + both)


class _Proportion:
    """A mean of parts in [0, 1], as that of `rows` independent rows that are 0 or 1."""

    def __init__(self, parts: Floats, exact: bool) -> None:
        self.mean = min(math.fsum(parts) / len(parts), 1.0)
        self.squares = math.fsum((parts - self.mean) ** 2)
        binomial = len(parts) * self.mean * (1.0 - self.mean)
        self._rows = len(parts) * (binomial + _FEW) / (self.squares + _FEW)
        self._exact = exact

    def below(self, alpha: float) -> float:
        """How far the lower limit lies below the mean."""
        return self.mean - _lower_limit(self.mean * self._rows, self._rows, alpha, self._exact)

    def above(self, alpha: float) -> float:
        """How far the upper limit lies above the mean."""
        rest = (1.0 - self.mean) * self._rows
        return 1.0 - _lower_limit(rest, self._rows, alpha, self._exact) - self.mean


_CAUTION = 0.88
"""Part of the level's error that limits of a share use up. Mid-P limits alone cover 92.8 % where
the rarer kind is about five rows; these, in all cells of 32 to 1,000 rows, 93.5 to 98.0 %."""


def share_limits(values: Floats, level: float = 0.95) -> tuple[float, float]:
    """Return mid-P limits of the mean of values from 0 to 1, shape (rows,).

    Seeds of a row are averaged first. Unlike those of a difference, such values are never lost, so
    one proportion is all of it.
    """
    share, alpha = _Proportion(values, exact=False), _CAUTION * (1.0 - level) / 2.0
    # At 0 and 1 one end is the share itself, which rounding must not pass.
    return max(share.mean - share.below(alpha), 0.0), min(share.mean + share.above(alpha), 1.0)


def _lower_limit(count: float, rows: float, alpha: float, exact: bool) -> float:
    """The lower limit of a proportion seen `count` times of `rows`, either not whole."""
    if count < 1e-9:
        return 0.0
    rest = max(rows - count, 0.0)
    outside = float(special.betaincinv(count, rest + 1.0, alpha))
    if exact:
        return outside
    if rest < 1e-9:
        return float((2.0 * alpha) ** (1.0 / rows))

    def excess(share: float) -> float:
        more = special.betainc(count, rest + 1.0, share) + special.betainc(count + 1.0, rest, share)
        return float(more) / 2.0 - alpha

    return _root(excess, outside, float(special.betaincinv(count + 1.0, rest, alpha)))


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    """The zero of an increasing function between two ends, or the end that it lies beyond."""
    if function(low) >= 0.0:
        return low
    if function(high) <= 0.0:
        return high
    return float(optimize.brentq(function, low, high, xtol=1e-12, rtol=1e-9))


def is_constant(values: Floats) -> bool:
    """Whether all values are the same, but for the rounding of their differences."""
    return bool(np.ptp(values) <= 1e-12 * max(1.0, float(np.abs(values).max())))


def ratio_limits(
    along: Callable[[float], BoundedMean], estimate: float, level: float
) -> tuple[float, float] | None:
    """Return Fieller's limits of a ratio: the ratios at which the mean of the rest may be 0.

    `along` gives the mean of part − ratio × whole. At a ratio of 0 that is the part itself, so
    the limits are above 0 exactly where the part's own are. None where they are not finite.
    Source: E. C. Fieller, "Some problems in interval estimation", J. R. Statist. Soc. B 16 (1954).
    """

    def end(side: int) -> float | None:
        """The ratio below (-1) or above (+1) the estimate at which 0 leaves the limits."""

        def beyond(distance: float) -> float:
            low, high = along(estimate + side * distance).limits(level)
            return low if side < 0 else -high

        nearer, farther = 0.0, 1e-3
        while beyond(farther) <= 0.0:
            nearer, farther = farther, 2.0 * farther
            if farther > _FARTHEST:
                return None
        return estimate + side * _root(beyond, nearer, farther)

    low, high = end(-1), end(+1)
    return None if low is None or high is None else (low, high)


_FARTHEST = 1e3
