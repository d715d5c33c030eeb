"""TOST: is the difference within a declared margin?

Two one-sided tests (D. J. Schuirmann, 1987) of the mean row delta, rows as clusters, each
row's deltas averaged over its seeds first. Two reference distributions:

`normal`
    Mean over standard error against the normal distribution: the published reanalysis.
`skewness_corrected` (default)
    The larger p-value of Student's t and of the skewness-corrected t of P. Hall, "On the
    removal of skewness by transformation", J. R. Statist. Soc. B 54 (1992). Where a condition
    only loses rows, deltas are skewed and the plain test declares equivalence too often (7 to
    9 % at a nominal 5 % with 396 rows); tests/bridge/stats/test_coverage.py measures both.
    Deltas of a 0/1 metric get the two pseudo-rows of `statebridge.stats.clustered`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict
from scipy import stats

from statebridge.stats.clustered import (
    Floats,
    deviating_share_bound,
    mean_and_sd,
    with_pseudo_rows,
)
from statebridge.stats.interval import Interval

Reference = Literal["skewness_corrected", "normal"]


class MarginVerdict(BaseModel):
    """Whether the difference was shown to lie within ± margin."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    margin: float
    p: float
    equivalent: bool


class Equivalence(BaseModel):
    """The outcome of TOST over one or more margins."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    alpha: float
    interval: Interval
    """At level 1 - 2 alpha; a margin is met exactly where this lies inside it."""
    margins: tuple[MarginVerdict, ...]
    ruled_out: float
    """The smallest margin met at `alpha`: any larger true difference is ruled out."""


def tost(
    row_deltas: Floats,
    margins: Sequence[float],
    *,
    zero_one: bool,
    alpha: float = 0.05,
    reference: Reference = "skewness_corrected",
) -> Equivalence | None:
    """Test whether the mean of `row_deltas`, shape (rows,), lies within each ± margin.

    Returns None where nothing can be said: a single row, or deltas without variance (but the
    deltas of a 0/1 metric that are all equal are tested exactly by the default reference).
    """
    if len(row_deltas) < 2:
        return None
    deltas = np.sort(row_deltas)
    if deltas[0] == deltas[-1]:
        if not zero_one or reference == "normal":
            return None
        return _exact_tost(float(deltas[0]), len(deltas), margins, alpha)
    if reference == "normal":
        return _tost_normal(deltas, margins, alpha)
    return _tost_corrected(with_pseudo_rows(deltas) if zero_one else deltas, margins, alpha)


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


def _tost_normal(deltas: Floats, margins: Sequence[float], alpha: float) -> Equivalence:
    mean, sd = mean_and_sd(deltas)
    error = sd / math.sqrt(len(deltas))
    reach = float(stats.norm.ppf(1.0 - alpha)) * error
    p_values = [float(stats.norm.sf((margin - abs(mean)) / error)) for margin in margins]
    interval = Interval(
        low=mean - reach, high=mean + reach, level=1.0 - 2.0 * alpha, method="tost_normal"
    )
    return _outcome(interval, p_values, margins, alpha)


def _tost_corrected(sample: Floats, margins: Sequence[float], alpha: float) -> Equivalence:
    rows = len(sample)
    mean, sd = mean_and_sd(sample)
    error = sd / math.sqrt(rows)
    skew = _skewness(sample, mean) / math.sqrt(rows)
    p_values = [
        max(
            _upper_p((mean + margin) / error, skew, rows),
            _upper_p((margin - mean) / error, -skew, rows),
        )
        for margin in margins
    ]
    critical = float(stats.t.ppf(1.0 - alpha, rows - 1))
    # The t at which the larger of the two p-values is alpha, from either side.
    from_below = max(critical, _uncorrected(critical, skew))
    from_above = max(critical, _uncorrected(critical, -skew))
    interval = Interval(
        low=mean - from_below * error,
        high=mean + from_above * error,
        level=1.0 - 2.0 * alpha,
        method="tost_skewness_corrected",
    )
    return _outcome(interval, p_values, margins, alpha)


def _skewness(sample: Floats, mean: float) -> float:
    """The bias-corrected sample skewness G1 (0 for two values, which have none)."""
    rows = len(sample)
    if rows < 3:
        return 0.0
    second = math.fsum((sample - mean) ** 2) / rows
    third = math.fsum((sample - mean) ** 3) / rows
    return third / math.pow(second, 1.5) * math.sqrt(rows * (rows - 1)) / (rows - 2)


def _upper_p(t_value: float, skew: float, rows: int) -> float:
    plain = stats.t.sf(t_value, rows - 1)
    corrected = stats.t.sf(_corrected(t_value, skew), rows - 1)
    return float(max(plain, corrected))


def _corrected(t_value: float, skew: float) -> float:
    """Hall's monotone cubic transformation of t; `skew` is skewness over sqrt(rows)."""
    cubic = t_value + skew * t_value**2 / 3.0 + skew**2 * t_value**3 / 27.0
    return cubic + skew / 6.0


def _uncorrected(value: float, skew: float) -> float:
    """The t that `_corrected` maps to `value`."""
    if abs(skew) < 1e-9:  # the cube root below loses its digits; the difference is smaller
        return value
    return 3.0 / skew * (math.cbrt(1.0 + skew * (value - skew / 6.0)) - 1.0)


def _exact_tost(delta: float, rows: int, margins: Sequence[float], alpha: float) -> Equivalence:
    """Every row has the same delta: how likely were that if the mean were beyond a margin?"""

    def p_value(margin: float) -> float:
        # The share of rows that must deviate, each by as much as it can, to reach the margin.
        share = (margin - abs(delta)) / (1.0 + abs(delta))
        return float((1.0 - share) ** rows) if share > 0 else 1.0

    share = deviating_share_bound(rows, alpha)
    interval = Interval(
        low=delta - share * (1.0 + delta),
        high=delta + share * (1.0 - delta),
        level=1.0 - 2.0 * alpha,
        method="exact_binomial",
    )
    return _outcome(interval, [p_value(margin) for margin in margins], margins, alpha)
