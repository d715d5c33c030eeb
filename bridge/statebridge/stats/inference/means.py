"""The mean over rows: its limits at any level, and one-sided p-values that agree with them.

Two kinds of rows, two methods; `statebridge.stats.inference.intervals` chooses. Each gives the
interval, the p-value and the equivalence test of a mean from one reference distribution, so that
they cannot contradict each other. docs/statistics.md has what they cover in simulations.

`BoundedMean`: deltas of a 0/1 metric, which lie in [-1, 1]. The mean is that of the gained parts
less that of the lost parts. Each part is a proportion: its limits are the mid-P binomial ones,
for the number of independent rows that its variance amounts to. The two are combined by the
method of variance estimates recovery (MOVER). It holds from no row gained to every row gained,
because the limits of a proportion do; no row is added and nothing is resampled.
Sources: G. Berry and P. Armitage, "Mid-P confidence intervals: a brief review", The Statistician
44 (1995); E. L. Korn and B. I. Graubard, "Confidence intervals for proportions with small
expected number of positive counts estimated from survey data", Survey Methodology 24 (1998);
R. G. Newcombe, "Improved confidence intervals for the difference between binomial proportions
based on paired data", Statistics in Medicine 17 (1998); G. Y. Zou and A. Donner, "Construction
of confidence limits about effect measures", Statistics in Medicine 27 (2008).

`StudentisedMean`: deltas of a continuous metric, by the bootstrap-t (B. Efron and R. J. Tibshirani,
"An Introduction to the Bootstrap", 1993, section 12.5). Its limits fall short where a tail is
heavy, because the sample tends to lack the rows that carry the mean. Each limit is therefore
moved outwards as if the sample held one row more at its most extreme value on that side.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

Floats = npt.NDArray[np.float64]


class Mean(Protocol):
    """A mean over rows, and how firm it is."""

    value: float
    error: float
    """Standard error; 0 where all rows are the same."""

    def limits(self, level: float) -> tuple[float, float]:
        """Return the two-sided limits at a level; infinite where the rows give none."""

    def p_above(self, value: float) -> float:
        """Return the one-sided p that the mean is not above `value`."""

    def p_below(self, value: float) -> float:
        """Return the one-sided p that the mean is not below `value`."""


_FEW = 0.15
"""Sum of squares by which a proportion's variance is taken to be nearer to the binomial one: with
few rows that differ, little is known of how far its seeds agree."""
_LEAST_ALPHA = 1e-12


class BoundedMean:
    """The mean of row deltas of a 0/1 metric, shape (rows,), in [-scale, scale].

    With `exact`, limits are Clopper and Pearson's instead of mid-P: a test then rejects no more
    often than its level, where mid-P does so on average only.
    """

    def __init__(self, deltas: Floats, *, scale: float = 1.0, exact: bool = False) -> None:
        self.value = math.fsum(deltas) / len(deltas)
        self.error = _standard_error(deltas, self.value)
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


def _standard_error(values: Floats, mean: float) -> float:
    if len(values) < 2 or is_constant(values):
        return 0.0
    squares = math.fsum((values - mean) ** 2)
    return math.sqrt(squares / (len(values) - 1) / len(values))


def is_constant(values: Floats) -> bool:
    """Whether all values are the same, but for the rounding of their differences."""
    return bool(np.ptp(values) <= 1e-12 * max(1.0, float(np.abs(values).max())))


_FULL_WEIGHT = 100
"""Rows from which on a limit counts the most extreme row once more; with fewer, a part of it. A
full row would make the limits of 32 normal rows cover 99 %."""
_CACHED_ROWS = 1000
_BLOCK = 500


class StudentisedMean:
    """The mean of continuous deltas by the bootstrap-t; see `Resamples.along`."""

    def __init__(self, deltas: Floats, centred_means: Floats, centred_squares: Floats) -> None:
        rows = len(deltas)
        self.value = math.fsum(deltas) / rows
        self.error = _standard_error(deltas, self.value)
        variance = (centred_squares - centred_means**2) * (rows / (rows - 1))
        # A resample without any spread has an infinite t, on the side where it lies.
        varied = variance > 1e-12 * self.error**2 * rows
        root = np.sqrt(np.where(varied, variance, 1.0) / rows)
        side = np.where(centred_means > 0.0, math.inf, -math.inf)
        self._t_values = np.sort(np.where(varied, centred_means / root, side))
        weight = min(1.0, math.sqrt(rows / _FULL_WEIGHT))
        self._low_from = self.value - weight * (self.value - deltas.min()) / (rows + weight)
        self._high_from = self.value + weight * (deltas.max() - self.value) / (rows + weight)

    def limits(self, level: float) -> tuple[float, float]:
        """Return the two-sided limits at a level; infinite where resamples lack any spread."""
        drawn = len(self._t_values)
        # The order statistic at which the p-value by counting reaches the level.
        place = math.ceil((drawn + 1) * (1.0 + level) / 2.0 - 1e-9)
        if place > drawn:
            return -math.inf, math.inf
        low = self._low_from - float(self._t_values[place - 1]) * self.error
        high = self._high_from - float(self._t_values[drawn - place]) * self.error
        return low, high

    def p_above(self, value: float) -> float:
        """Return the one-sided p that the mean is not above `value`."""
        t_value = (self._low_from - value) / self.error
        beyond = len(self._t_values) - int(np.searchsorted(self._t_values, t_value, side="left"))
        return (1 + beyond) / (1 + len(self._t_values))

    def p_below(self, value: float) -> float:
        """Return the one-sided p that the mean is not below `value`."""
        t_value = (self._high_from - value) / self.error
        beyond = int(np.searchsorted(self._t_values, t_value, side="right"))
        return (1 + beyond) / (1 + len(self._t_values))


class Resamples:
    """Bootstrap resamples of rows, from which the mean of any mixture of the columns follows.

    `columns` has shape (rows, k). The rows are sorted, and the resamples depend on the numbers
    of rows and of resamples alone: neither the order of the rows nor another comparison changes
    them.
    """

    def __init__(self, columns: Floats, resamples: int) -> None:
        columns = columns[np.lexsort(columns.T[::-1])]
        rows, width = columns.shape
        self._columns = columns
        self._pairs = [(i, j) for i in range(width) for j in range(i, width)]
        centred = columns - columns.mean(axis=0)
        products = np.stack([centred[:, i] * centred[:, j] for i, j in self._pairs], axis=1)
        both = np.concatenate([centred, products], axis=1)
        drawn = np.concatenate(
            [np.asarray(counts, dtype=np.float64) @ both for counts in _counts(rows, resamples)]
        )
        self._means, self._products = drawn[:, :width] / rows, drawn[:, width:] / rows

    def along(self, weights: Sequence[float]) -> StudentisedMean | None:
        """Return the mean of the weighted sum of the columns; None where it does not vary."""
        factors = np.asarray(weights, dtype=np.float64)
        deltas = self._columns @ factors
        if len(deltas) < 2 or is_constant(deltas):
            return None
        of_pair = [(1 if i == j else 2) * factors[i] * factors[j] for i, j in self._pairs]
        return StudentisedMean(deltas, self._means @ factors, self._products @ np.array(of_pair))


def _counts(rows: int, resamples: int) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield how often each row is in each resample, in blocks of shape (_BLOCK, rows)."""
    if rows <= _CACHED_ROWS:
        yield from _cached_counts(rows, resamples)
        return
    yield from _drawn_counts(rows, resamples)


@lru_cache(maxsize=32)
def _cached_counts(rows: int, resamples: int) -> tuple[npt.NDArray[np.uint8], ...]:
    return tuple(_drawn_counts(rows, resamples))


def _drawn_counts(rows: int, resamples: int) -> Iterator[npt.NDArray[np.uint8]]:
    generator = np.random.Generator(np.random.PCG64([rows, resamples]))
    for start in range(0, resamples, _BLOCK):
        size = min(_BLOCK, resamples - start)
        places = generator.integers(0, rows, size=(size, rows)) + rows * np.arange(size)[:, None]
        counts = np.bincount(places.ravel(), minlength=size * rows)
        yield np.minimum(counts, 255).astype(np.uint8).reshape(size, rows)


def ratio_limits(
    along: Callable[[float], Mean | None], estimate: float, level: float
) -> tuple[float, float] | None:
    """Return Fieller's limits of a ratio: the ratios at which the mean of the rest may be 0.

    `along` gives the mean of part − ratio × whole. At a ratio of 0 that is the part itself, so
    the limits are above 0 exactly where the part's own are. None where they are not finite.
    Source: E. C. Fieller, "Some problems in interval estimation", J. R. Statist. Soc. B 16 (1954).
    """

    def end(side: int) -> float | None:
        """The ratio below (-1) or above (+1) the estimate at which 0 leaves the limits."""

        def beyond(distance: float) -> float:
            rest = along(estimate + side * distance)
            if rest is None:
                return 0.0
            low, high = rest.limits(level)
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
