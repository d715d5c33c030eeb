"""Tests of paired differences: McNemar, equivalence, detectable size, many hypotheses.

McNemar's test is of a 0/1 metric between a condition and its baseline, on the same rows:
`gained` rows are right under the condition only, `lost` rows under the baseline only.

Equivalence (is the difference within a declared margin?) is by two one-sided tests (TOST,
D. J. Schuirmann, 1987) of the mean row delta, rows as clusters, each row's deltas averaged over
its seeds first. Two reference distributions:

`normal`
    Mean over standard error against the normal distribution: the published reanalysis.
`skewness_corrected` (default)
    The larger p-value of Student's t and of the skewness-corrected t of P. Hall, "On the
    removal of skewness by transformation", J. R. Statist. Soc. B 54 (1992). Where a condition
    only loses rows, deltas are skewed and the plain test declares equivalence too often (7 to
    9 % at a nominal 5 % with 396 rows); tests/bridge/stats/test_coverage.py measures both.
    Deltas of a 0/1 metric get the two pseudo-rows of `statebridge.stats.intervals`.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import optimize, stats

from statebridge.stats.comparison import Equivalence, Interval, MarginVerdict
from statebridge.stats.intervals import (
    Floats,
    deviating_share_bound,
    mean_and_sd,
    with_pseudo_rows,
)


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


def minimal_detectable_effect(
    standard_deviation: float, rows: int, *, alpha: float = 0.05, power: float = 0.80
) -> float | None:
    """Return the smallest true mean delta that a two-sided paired t-test would have found.

    Found: significant at level `alpha` and with the right sign, with probability `power`,
    given `rows` independent clusters whose deltas have this standard deviation. None for
    fewer than two rows or no variance.
    """
    if rows < 2 or standard_deviation <= 0:
        return None
    freedom = rows - 1
    critical = float(stats.t.ppf(1 - alpha / 2, freedom))

    def shortfall(noncentrality: float) -> float:
        return float(stats.nct.sf(critical, freedom, noncentrality)) - power

    most = critical + 6.0
    while shortfall(most) < 0:
        most *= 1.5
    noncentrality = float(optimize.brentq(shortfall, 0.0, most, xtol=1e-10))
    return noncentrality * standard_deviation / math.sqrt(rows)


Reference = Literal["skewness_corrected", "normal"]


def tost(
    row_deltas: Floats,
    margins: Sequence[float],
    *,
    zero_one: bool,
    alpha: float = 0.05,
    reference: Reference = "skewness_corrected",
) -> Equivalence | None:
    """Test whether the mean of `row_deltas`, shape (rows,), lies within each ± margin.

    Returns None where no test is possible: a single row, or deltas without variance (but the
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
