from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from statebridge.stats.inference.hypothesis_tests import exact_mcnemar
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


@pytest.mark.parametrize(("gained", "lost", "rows"), [(0, 0, 50), (7, 3, 50), (45, 0, 50)])
def test_gained_and_lost_limits_combine_as_newcombe_does(gained: int, lost: int, rows: int) -> None:
    low, high = BoundedMean(counted(gained, lost, rows)).limits(0.95)
    (low_g, high_g), (low_l, high_l) = mid_p_limits(gained, rows), mid_p_limits(lost, rows)
    g, k = gained / rows, lost / rows
    correlation = -math.sqrt(g * k / ((1 - g) * (1 - k))) if 0 < g < 1 else 0.0
    down = (g - low_g) ** 2 + (high_l - k) ** 2 - 2 * correlation * (g - low_g) * (high_l - k)
    up = (high_g - g) ** 2 + (k - low_l) ** 2 - 2 * correlation * (high_g - g) * (k - low_l)
    assert low == pytest.approx(g - k - math.sqrt(down), abs=1e-8)
    assert high == pytest.approx(min(g - k + math.sqrt(up), 1.0), abs=1e-8)


@pytest.mark.parametrize("right", [1, 37, 99])
def test_limits_of_a_share_are_mid_p_at_a_little_less(right: int) -> None:
    found = share_limits(np.array([1.0] * right + [0.0] * (100 - right)))
    assert found == pytest.approx(mid_p_limits(right, 100, 0.0215), abs=1e-8)


def test_a_share_of_nothing_or_all_has_an_exact_limit() -> None:
    theirs = stats.binomtest(0, 40).proportion_ci(0.95, method="exact").high
    assert share_limits(np.zeros(40)) == pytest.approx((0.0, theirs))
    assert share_limits(np.ones(40)) == pytest.approx((1.0 - theirs, 1.0))


def test_clusters_that_agree_count_as_rows_of_their_own_size() -> None:
    draw = np.random.default_rng(3)
    right = (draw.random(40) < 0.6).astype(float)
    alone = share_limits(right)
    # Five rows of each are right or wrong together: as good as one.
    assert share_limits(5 * right, sizes=np.full(40, 5.0)) == pytest.approx(alone, abs=1e-9)
    assert share_limits(right, sizes=np.ones(40)) == pytest.approx(alone, abs=1e-12)
    apart = share_limits(draw.binomial(5, 0.6, 40).astype(float), sizes=np.full(40, 5.0))
    assert apart[1] - apart[0] < 0.6 * (alone[1] - alone[0])
    unequal = share_limits(np.zeros(3), sizes=np.array([98.0, 1.0, 1.0]))
    assert unequal[1] > 0.9  # one cluster has nearly all of the rows


@pytest.mark.parametrize("gained", [1, 12, 29])
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


def test_where_no_row_moves_the_limits_are_alike() -> None:
    low, high = BoundedMean(np.zeros(64)).limits(0.95)
    assert high == pytest.approx(1 - 0.05 ** (1 / 64))
    assert low == -high


def test_where_all_rows_move_one_row_in_some_may_be_lost() -> None:
    every = BoundedMean(np.ones(64))
    # Of 64 rows none was lost, so 5.6 % may be, and each of them counts twice.
    assert every.limits(0.95) == pytest.approx((1 - 2 * (1 - 0.025 ** (1 / 64)), 1.0))
    # One row of 64 right under two of three seeds; Wilson of the share gives [0.909, 0.996].
    near = BoundedMean(np.array([1.0] * 63 + [2 / 3])).limits(0.95)
    assert near[0] == pytest.approx(0.891, abs=0.001)
    assert near[1] < 1.0
    # One row less that is right is never a higher limit.
    lows = [BoundedMean(counted(64 - k, 0, 64)).limits(0.95)[0] for k in range(5)]
    assert lows == sorted(lows, reverse=True)


@pytest.mark.parametrize("rows", [9, 20, 32, 49])
def test_no_interval_holds_0_where_mcnemars_test_rejects_it(rows: int) -> None:
    for gained in range(rows + 1):
        for lost in range(min(gained, rows - gained + 1)):
            if exact_mcnemar(gained, lost) < 0.05:
                assert BoundedMean(counted(gained, lost, rows)).limits(0.95)[0] > 0, (gained, lost)


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
