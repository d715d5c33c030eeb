from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from statebridge.stats.inference.means import BoundedMean, Floats, ratio_limits, share_limits


def counted(gained: int, lost: int, rows: int) -> Floats:
    return np.array([1.0] * gained + [-1.0] * lost + [0.0] * (rows - gained - lost))


def mid_p_limits(count: int, rows: int, alpha: float = 0.025) -> tuple[float, float]:
    """Mid-P limits written out as sums of binomial probabilities."""

    def at_least(share: float) -> float:
        binomial = stats.binom(rows, share)
        return float(binomial.sf(count) + 0.5 * binomial.pmf(count)) - alpha

    def at_most(share: float) -> float:
        binomial = stats.binom(rows, share)
        return float(binomial.cdf(count - 1) + 0.5 * binomial.pmf(count)) - alpha

    low = optimize.brentq(at_least, 0, 1) if count else 0.0
    high = optimize.brentq(at_most, 0, 1) if count < rows else 1.0
    return low, high


@pytest.mark.parametrize(("gained", "lost", "rows"), [(0, 0, 50), (7, 3, 50), (50, 0, 50)])
def test_gained_and_lost_limits_combine_as_newcombe_does(gained: int, lost: int, rows: int) -> None:
    low, high = BoundedMean(counted(gained, lost, rows)).limits(0.95)
    (low_g, high_g), (low_l, high_l) = mid_p_limits(gained, rows), mid_p_limits(lost, rows)
    g, k = gained / rows, lost / rows
    correlation = -math.sqrt(g * k / ((1 - g) * (1 - k))) if 0 < g < 1 else 0.0
    down = (g - low_g) ** 2 + (high_l - k) ** 2 - 2 * correlation * (g - low_g) * (high_l - k)
    up = (high_g - g) ** 2 + (k - low_l) ** 2 - 2 * correlation * (high_g - g) * (k - low_l)
    assert low == pytest.approx(g - k - math.sqrt(down), abs=1e-8)
    assert high == pytest.approx(min(g - k + math.sqrt(up), 1.0), abs=1e-8)


@pytest.mark.parametrize("right", [0, 1, 37, 100])
def test_limits_of_a_share_are_mid_p_at_a_little_less(right: int) -> None:
    found = share_limits(np.array([1.0] * right + [0.0] * (100 - right)))
    assert found == pytest.approx(mid_p_limits(right, 100, 0.022), abs=1e-8)


@pytest.mark.parametrize("rows", [32, 100])
def test_a_share_is_covered_as_it_says(rows: int) -> None:
    counts = np.arange(rows + 1)
    ends = [share_limits((np.arange(rows) < right).astype(float)) for right in counts]
    low, high = np.array(ends).T
    for rate in np.linspace(5 / rows, 0.5, 60):
        covered = stats.binom.pmf(counts, rows, rate)[(low <= rate) & (rate <= high)].sum()
        assert 0.934 < covered < 0.981, rate


@pytest.mark.parametrize("gained", [1, 12, 39])
def test_exact_limits_are_clopper_and_pearsons(gained: int) -> None:
    _, high = BoundedMean(counted(gained, 0, 40), exact=True).limits(0.95)
    theirs = stats.binomtest(gained, 40).proportion_ci(0.95, method="exact").high
    assert high == pytest.approx(theirs, abs=1e-9)


def test_seeds_that_agree_are_worth_one_and_others_more() -> None:
    draw = np.random.default_rng(1)
    right = draw.random(200) < 0.3
    others = draw.random((200, 4)) < 0.3
    alone = BoundedMean(right.astype(float)).limits(0.95)
    apart = BoundedMean(np.column_stack([right, others]).mean(axis=1)).limits(0.95)
    # Five independent seeds have a fifth of the variance.
    ratio = (apart[1] - apart[0]) / (alone[1] - alone[0])
    assert ratio == pytest.approx(1 / math.sqrt(5), rel=0.1)


def test_both_ends_of_the_range_have_the_same_kind_of_interval() -> None:
    nothing, everything = BoundedMean(np.zeros(64)), BoundedMean(np.ones(64))
    low, high = nothing.limits(0.95)
    assert high == pytest.approx(1 - 0.05 ** (1 / 64))
    assert low == -high
    assert everything.limits(0.95) == pytest.approx((1 - high, 1.0), abs=0.02)
    # One row of 64 right under two of three seeds; Wilson gives [0.909, 0.996].
    near = BoundedMean(np.array([1.0] * 63 + [2 / 3])).limits(0.95)
    assert near[0] == pytest.approx(0.940, abs=0.001)
    assert near[1] < 1.0


ROW_DELTAS = st.lists(
    st.sampled_from([-1.0, -1 / 3, 0.0, 0.0, 1 / 3, 1.0]), min_size=2, max_size=60
)


@settings(deadline=None, max_examples=50)
@given(ROW_DELTAS, st.booleans())
def test_a_mean_and_its_negative_have_mirrored_limits(deltas: list[float], exact: bool) -> None:
    low, high = BoundedMean(np.array(deltas), exact=exact).limits(0.95)
    mirrored = BoundedMean(-np.array(deltas), exact=exact).limits(0.95)
    assert (low, high) == pytest.approx((-mirrored[1], -mirrored[0]), abs=1e-9)
    assert -1 <= low <= math.fsum(deltas) / len(deltas) <= high <= 1
    assert low < high


def check_agreement(mean: BoundedMean, level: float, value: float) -> None:
    low, high = mean.limits(level)
    alpha = (1 - level) / 2
    if abs(low - value) > 1e-6:
        assert (mean.p_above(value) <= alpha + 1e-9) == (low > value)
    if abs(high - value) > 1e-6:
        assert (mean.p_below(value) <= alpha + 1e-9) == (high < value)


@settings(deadline=None, max_examples=50)
@given(ROW_DELTAS, st.floats(-0.9, 0.9), st.sampled_from([0.8, 0.9, 0.95]))
def test_bounded_p_values_agree_with_the_limits(
    deltas: list[float], value: float, level: float
) -> None:
    check_agreement(BoundedMean(np.array(deltas)), level, value)


def test_ratio_limits_are_fiellers_for_many_rows() -> None:
    draw = np.random.default_rng(6)
    whole = (draw.random(2000) < 0.8).astype(float)
    part = whole * (draw.random(2000) < 0.4)
    ratio = part.mean() / whole.mean()
    found = ratio_limits(lambda share: BoundedMean(part - share * whole), ratio, 0.95)
    assert found is not None

    def squared_t(share: float) -> float:
        rest = part - share * whole
        return float(rest.mean() ** 2 / (rest.var(ddof=1) / 2000)) - 1.96**2

    low, high = optimize.brentq(squared_t, 0.2, ratio), optimize.brentq(squared_t, ratio, 0.6)
    # Mid-P limits differ from normal ones by about a row of 2,000.
    assert found == pytest.approx((low, high), abs=0.1 * (high - low) / 2)


def test_a_ratio_to_a_whole_that_may_be_zero_has_no_limits() -> None:
    part, whole = np.random.default_rng(7).choice([-1.0, 0.0, 1.0], (2, 50))

    def rest(share: float) -> BoundedMean:
        return BoundedMean(part - share * whole, scale=1.0 + abs(share))

    assert ratio_limits(rest, 0.0, 0.95) is None
