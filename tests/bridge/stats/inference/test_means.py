from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from statebridge.stats.inference.means import BoundedMean, Floats, Mean, Resamples, ratio_limits

RESAMPLES = 999


def counted(gained: int, lost: int, rows: int) -> Floats:
    return np.array([1.0] * gained + [-1.0] * lost + [0.0] * (rows - gained - lost))


def continuous(deltas: Floats, resamples: int = RESAMPLES) -> Mean:
    found = Resamples(deltas[:, None], resamples).along([1])
    assert found is not None
    return found


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


def check_agreement(mean: Mean, level: float, value: float) -> None:
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


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.floats(-2, 2), st.sampled_from([0.8, 0.9, 0.95]))
def test_continuous_p_values_agree_with_the_limits(seed: int, value: float, level: float) -> None:
    deltas = np.random.default_rng(seed).gamma(0.7, size=40) - 0.7
    check_agreement(continuous(deltas), level, value)


@pytest.mark.parametrize("rows", [40, 150])
def test_studentised_limits_are_a_plain_bootstrap_t_moved_out(rows: int) -> None:
    deltas = np.random.default_rng(1).gamma(1.5, size=rows) - 1.0
    low, high = continuous(deltas, 40_000).limits(0.95)
    draw = np.random.default_rng(4)
    mean, sd = deltas.mean(), deltas.std(ddof=1)
    samples = deltas[draw.integers(0, rows, (40_000, rows))]
    t_values = (samples.mean(axis=1) - mean) / samples.std(axis=1, ddof=1)
    low_t, high_t = np.quantile(t_values, [0.025, 0.975])
    weight = min(1.0, math.sqrt(rows / 100))
    down = np.append(deltas, deltas.min()), np.append(deltas, deltas.max())
    weights = np.append(np.ones(rows), weight)
    # Bootstrap error of a 2.5 % quantile, 1.4 % of a standard error in each of the two, and t has
    # heavier tails than the mean; four times that.
    error = sd / np.sqrt(rows)
    assert low == pytest.approx(
        np.average(down[0], weights=weights) - high_t * sd, abs=0.08 * error
    )
    assert high == pytest.approx(
        np.average(down[1], weights=weights) - low_t * sd, abs=0.08 * error
    )


def test_resamples_lacking_every_row_that_differs_give_no_limits() -> None:
    few = np.zeros(100)
    few[:2] = [3.0, 5.0]
    assert not all(math.isfinite(end) for end in continuous(few).limits(0.95))
    few[2:12] = 4.0
    assert all(math.isfinite(end) for end in continuous(few).limits(0.95))


def test_order_of_rows_does_not_matter() -> None:
    deltas = np.random.default_rng(2).normal(size=(50, 2))
    mine = Resamples(deltas, 200).along([1.0, -0.3])
    theirs = Resamples(deltas[::-1].copy(), 200).along([1.0, -0.3])
    assert mine is not None
    assert theirs is not None
    assert mine.limits(0.9) == theirs.limits(0.9)


def test_a_mixture_of_columns_is_the_mean_of_their_mixture() -> None:
    columns = np.random.default_rng(3).normal(size=(60, 2)) + 1.0
    mixed = Resamples(columns, RESAMPLES).along([1.0, -0.5])
    assert mixed is not None
    alone = continuous(columns @ np.array([1.0, -0.5]))
    assert mixed.value == pytest.approx(alone.value)
    # Other rows come first, so the resamples are others: 999 of them, 9 % of a standard error.
    assert mixed.limits(0.95) == pytest.approx(alone.limits(0.95), abs=0.3 * alone.error)


def test_many_rows_are_drawn_in_blocks_as_few_are() -> None:
    deltas = np.random.default_rng(5).normal(size=1200)
    low, high = continuous(deltas).limits(0.95)
    error = deltas.std(ddof=1) / math.sqrt(1200)
    assert (high - low) / error == pytest.approx(2 * 1.96, rel=0.15)


def test_ratio_limits_are_fiellers_for_normal_means() -> None:
    draw = np.random.default_rng(6)
    whole = 3.0 + draw.normal(size=400)
    part = 0.4 * whole + 0.5 * draw.normal(size=400)
    drawn = Resamples(np.column_stack([part, whole]), 9999)
    ratio = part.mean() / whole.mean()
    found = ratio_limits(lambda share: drawn.along([1.0, -share]), ratio, 0.95)
    assert found is not None

    def squared_t(share: float) -> float:
        rest = part - share * whole
        return float(rest.mean() ** 2 / (rest.var(ddof=1) / 400)) - 1.96**2

    low, high = optimize.brentq(squared_t, 0.2, ratio), optimize.brentq(squared_t, ratio, 0.6)
    # The extreme row that each limit counts once more is a seventh of a standard error.
    assert found == pytest.approx((low, high), abs=0.25 * (high - low) / 2)


def test_a_ratio_to_a_whole_that_may_be_zero_has_no_limits() -> None:
    draw = np.random.default_rng(7)
    drawn = Resamples(draw.normal(size=(50, 2)), RESAMPLES)
    assert ratio_limits(lambda share: drawn.along([1.0, -share]), 0.0, 0.95) is None
