"""The mean over rows of a bounded metric: limits at any level, and p-values that agree with them.

Interval, p-value and equivalence test come from one reference distribution, so that they cannot
contradict each other. docs/statistics.md has what they cover in simulations.

`BoundedMean`: deltas of a metric from 0 to 1, which lie in [-1, 1]. The mean is that of the gained
parts less that of the lost parts. Each part is a proportion: its limits are the mid-P binomial
ones, for the number of independent rows that its variance amounts to. The two are combined by the
method of variance estimates recovery (MOVER). It holds from no row gained to every row gained,
because the limits of a proportion do; no row is added and nothing is resampled.

Where nearly all rows move to one side, the gained and the lost part are the same count seen twice,
and their estimated correlation does not show it while one of them is zero. The mean is then that
of one proportion, each row's place in the range, with Clopper and Pearson's limits, since what is
left of the range is rare.
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
import scipy

Floats = npt.NDArray[np.float64]


_FEW = 0.15
"""Sum of squares by which a proportion's variance is taken to be nearer to the binomial one: with
few rows that differ, little is known of how far its seeds agree."""
_ONE_LOST = 1.0
"""The same where nearly all rows move to one side: the sum of squares of one row at the other."""
_FEW_UNMOVED, _MOST_MOVED = 5.0, 0.75
"""With fewer rows that stay as they were, and at least this share that moves to one side, the mean
is that of one proportion. By gained and lost parts such cells of 32 to 1,000 rows are covered in 87
to 93 %, and so in 93.5 % and more (docs/statistics.md)."""
_LEAST_ALPHA = 1e-12


class BoundedMean:
    """The mean of row deltas of a bounded metric, shape (rows,), in [-scale, scale].

    With `exact`, limits are Clopper and Pearson's instead of mid-P: a test then rejects no more
    often than its level, where mid-P does so on average only.
    """

    def __init__(self, deltas: Floats, *, scale: float = 1.0, exact: bool = False) -> None:
        self.value = math.fsum(deltas) / len(deltas)
        self._scale = scale
        gained, lost = np.maximum(deltas, 0.0) / scale, np.maximum(-deltas, 0.0) / scale
        moved = [math.fsum(gained), math.fsum(lost)]
        few_unmoved = len(deltas) - sum(moved) < _FEW_UNMOVED
        self._place = None
        if few_unmoved and max(moved) >= _MOST_MOVED * len(deltas):
            self._place = _Proportion((1.0 + deltas / scale) / 2.0, exact=True, few=_ONE_LOST)
        self._gained, self._lost = _Proportion(gained, exact), _Proportion(lost, exact)
        # No row is in both parts, so their covariance is the product of the means, negative.
        spread = self._gained.squares * self._lost.squares
        both = len(deltas) * self._gained.mean * self._lost.mean
        self._correlation = -both / math.sqrt(spread) if spread > 0 else 0.0

    @property
    def one_sided(self) -> bool:
        """Whether nearly all rows move to one side."""
        return self._place is not None

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
        if self._place is not None:
            reach = 2.0 * self._scale * self._place.below(alpha)
        else:
            reach = self._reach(self._gained.below(alpha), self._lost.above(alpha))
        return max(self.value - reach, -self._scale)

    def _high(self, alpha: float) -> float:
        if self._place is not None:
            reach = 2.0 * self._scale * self._place.above(alpha)
        else:
            reach = self._reach(self._gained.above(alpha), self._lost.below(alpha))
        return min(self.value + reach, self._scale)

    def _reach(self, gained: float, lost: float) -> float:
        both = -2.0 * self._correlation * gained * lost
        return self._scale * math.sqrt(gained**2 + lost**2 + both)


class _Proportion:
    """A mean of parts in [0, 1], as that of `rows` independent rows that are 0 or 1.

    With `sizes` the parts are of clusters of these sizes: the mean is the sum of the parts over the
    sum of the sizes, and each cluster is about one row if its members agree.
    """

    def __init__(
        self, parts: Floats, exact: bool, *, sizes: Floats | None = None, few: float = _FEW
    ) -> None:
        sizes = np.ones(len(parts)) if sizes is None else sizes
        self.mean = min(math.fsum(parts) / math.fsum(sizes), 1.0)
        unit = math.fsum(sizes**2) / len(sizes)
        self.squares = math.fsum((parts - self.mean * sizes) ** 2) / unit
        clusters = math.fsum(sizes) ** 2 / unit / len(sizes)
        binomial = len(parts) * self.mean * (1.0 - self.mean)
        self._rows = clusters * (binomial + few) / (self.squares + few)
        self._exact = exact

    def below(self, alpha: float) -> float:
        """How far the lower limit lies below the mean."""
        return self.mean - _lower_limit(self.mean * self._rows, self._rows, alpha, self._exact)

    def above(self, alpha: float) -> float:
        """How far the upper limit lies above the mean."""
        rest = (1.0 - self.mean) * self._rows
        return 1.0 - _lower_limit(rest, self._rows, alpha, self._exact) - self.mean


_CAUTION = 0.86
"""Part of the level's error that limits of a share use up. Mid-P limits alone cover 91.7 % where
the rarer kind is three to five rows; these, at every rate of 32 to 1,000 rows, 93.5 % and more."""


def share_limits(
    values: Floats, level: float = 0.95, *, sizes: Floats | None = None
) -> tuple[float, float]:
    """Return mid-P limits of the mean of values from 0 to 1, shape (rows,).

    Seeds of a row are averaged first. Unlike those of a difference, such values are never lost, so
    one proportion is all of it. Where all are 0, or all are 1, the limit is Clopper and Pearson's.

    Args:
        values: One value a row; with `sizes` the sum of the values of each cluster.
        level: Of both limits together.
        sizes: Size of each cluster, shape (clusters,): the limits are then those of the sum of the
            values over that of the sizes, for other clusters.
    """
    whole = np.ones(len(values)) if sizes is None else sizes
    alike = bool((values == 0.0).all() or (values == whole).all())
    share = _Proportion(values, exact=alike, sizes=sizes)
    alpha = (1.0 if alike else _CAUTION) * (1.0 - level) / 2.0
    # At 0 and 1 one end is the share itself, which rounding must not pass.
    return max(share.mean - share.below(alpha), 0.0), min(share.mean + share.above(alpha), 1.0)


def _lower_limit(count: float, rows: float, alpha: float, exact: bool) -> float:
    """The lower limit of a proportion seen `count` times of `rows`, either not whole."""
    if count < 1e-9:
        return 0.0
    rest = max(rows - count, 0.0)
    outside = float(scipy.special.betaincinv(count, rest + 1.0, alpha))
    if exact:
        return outside
    if rest < 1e-9:
        return float((2.0 * alpha) ** (1.0 / rows))

    def excess(share: float) -> float:
        more = scipy.special.betainc(count, rest + 1.0, share) + scipy.special.betainc(
            count + 1.0, rest, share
        )
        return float(more) / 2.0 - alpha

    return _root(excess, outside, float(scipy.special.betaincinv(count + 1.0, rest, alpha)))


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    """The zero of an increasing function between two ends, or the end that it lies beyond."""
    if function(low) >= 0.0:
        return low
    if function(high) <= 0.0:
        return high
    return float(scipy.optimize.brentq(function, low, high, xtol=1e-12, rtol=1e-9))


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
