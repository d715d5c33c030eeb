from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from statebridge.stats.comparison import Interval
from statebridge.stats.intervals import (
    Floats,
    IntervalKind,
    bca_bounds,
    bootstrap_means,
    clustered_interval,
    deviating_share_bound,
    keyed_generator,
    mean_and_sd,
)


def interval(
    deltas: Floats, *, zero_one: bool, kind: IntervalKind = "studentised", resamples: int = 2000
) -> Interval | None:
    return clustered_interval(
        deltas, keyed_generator("test"), zero_one=zero_one, kind=kind, resamples=resamples
    )


def skewed(rows: int = 200) -> Floats:
    return np.random.default_rng(1).gamma(1.5, size=rows) - 1.0


def thirds(rows: int = 396) -> Floats:
    draw = np.random.default_rng(2)
    return draw.choice([-1, -2 / 3, -1 / 3, 0, 0, 0, 0, 0, 0, 1 / 3, 2 / 3], size=rows)


@pytest.mark.parametrize("deltas", [skewed(), thirds()], ids=["continuous", "thirds"])
def test_bca_agrees_with_scipy(deltas: Floats) -> None:
    mine = interval(deltas, zero_one=False, kind="bca", resamples=40_000)
    theirs = stats.bootstrap(
        (deltas,), np.mean, n_resamples=40_000, method="BCa", rng=np.random.default_rng(3)
    ).confidence_interval
    assert mine is not None
    # Bootstrap error of a 2.5 % quantile: about sd x sqrt(0.025 x 0.975 / 40,000) / 0.058 of a
    # standard error, 1.4 %, in each of the two; four times that.
    error = deltas.std() / np.sqrt(len(deltas))
    assert mine.low == pytest.approx(theirs.low, abs=0.08 * error)
    assert mine.high == pytest.approx(theirs.high, abs=0.08 * error)
    assert mine.method == "bca_bootstrap"


@pytest.mark.parametrize("deltas", [skewed(), np.random.default_rng(9).normal(size=10)])
def test_studentised_agrees_with_a_plain_bootstrap_t(deltas: Floats) -> None:
    mine = interval(deltas, zero_one=False, resamples=40_000)
    draw = np.random.default_rng(4)
    n, mean = len(deltas), deltas.mean()
    samples = deltas[draw.integers(0, n, (40_000, n))]
    t_values = (samples.mean(axis=1) - mean) / samples.std(axis=1, ddof=1)
    low_t, high_t = np.quantile(t_values, [0.025, 0.975])
    assert mine is not None
    error = deltas.std() / np.sqrt(n)  # as above; t has heavier tails than the mean
    assert mine.low == pytest.approx(mean - high_t * deltas.std(ddof=1), abs=0.08 * error)
    assert mine.high == pytest.approx(mean - low_t * deltas.std(ddof=1), abs=0.08 * error)
    assert mine.method == "studentised_bootstrap"


def test_both_ways_of_drawing_have_the_same_distribution() -> None:
    values = thirds()[:, None]
    by_count = bootstrap_means(np.sort(values, axis=0), keyed_generator("counts"), 20_000)[:, 0]
    # Values that differ in the twelfth digit are drawn row by row instead.
    apart = np.sort(values, axis=0) + np.linspace(0, 1e-12, len(values))[:, None]
    by_row = bootstrap_means(apart, keyed_generator("rows"), 20_000)[:, 0]
    spread = values.std() / np.sqrt(len(values))
    # Standard error of a mean of 20,000 is 0.7 % of the spread, of a deviation 0.5 %.
    assert by_count.mean() == pytest.approx(by_row.mean(), abs=0.04 * spread)
    assert by_count.std() == pytest.approx(by_row.std(), rel=0.03)
    assert by_count.std() == pytest.approx(spread, rel=0.03)


def test_standard_error_is_that_of_a_cluster_robust_regression() -> None:
    draw = np.random.default_rng(5)
    rows, seeds = 120, 3
    deltas = draw.normal(size=(rows, 1)) + draw.normal(size=(rows, seeds))
    _, sd = mean_and_sd(deltas.mean(axis=1))
    fit = sm.OLS(deltas.ravel(), np.ones(rows * seeds)).fit(
        cov_type="cluster",
        cov_kwds={"groups": np.repeat(np.arange(rows), seeds), "use_correction": False},
    )
    # statsmodels without its correction divides by rows instead of rows - 1.
    robust = fit.bse[0] * np.sqrt(rows / (rows - 1))
    assert sd / np.sqrt(rows) == pytest.approx(robust, rel=1e-12)


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.sampled_from([-1.0, -1 / 3, 0.0, 0.0, 1 / 3, 1.0]), min_size=2, max_size=60),
    st.randoms(use_true_random=False),
    st.sampled_from(["studentised", "bca"]),
    st.booleans(),
)
def test_order_of_rows_does_not_matter(
    deltas: list[float], shuffler: object, kind: IntervalKind, zero_one: bool
) -> None:
    other = list(deltas)
    shuffler.shuffle(other)  # type: ignore[attr-defined]
    mine = interval(np.array(deltas), zero_one=zero_one, kind=kind, resamples=200)
    theirs = interval(np.array(other), zero_one=zero_one, kind=kind, resamples=200)
    assert mine == theirs


def test_order_of_continuous_rows_does_not_matter() -> None:
    deltas = skewed()
    for kind in ("studentised", "bca"):
        mine = interval(deltas, zero_one=False, kind=kind)
        assert mine == interval(deltas[::-1].copy(), zero_one=False, kind=kind)


def test_one_row_and_constant_deltas_give_no_continuous_interval() -> None:
    assert interval(np.array([0.5]), zero_one=False) is None
    assert interval(np.array([1.0]), zero_one=True) is None
    assert interval(np.full(10, 0.25), zero_one=False) is None


@pytest.mark.parametrize("delta", [0.0, -1.0, 1.0, 1 / 3])
def test_constant_zero_one_deltas_get_an_exact_interval(delta: float) -> None:
    found = interval(np.full(396, delta), zero_one=True)
    assert found is not None
    assert found.method == "exact_binomial"
    share = stats.binomtest(0, 396).proportion_ci(0.95, method="exact").high
    assert found.low == pytest.approx(delta - share * (1 + delta), abs=1e-12)
    assert found.high == pytest.approx(delta + share * (1 - delta), abs=1e-12)
    assert found.low >= -1
    assert found.high <= 1


def test_share_bound_is_the_exact_binomial_one() -> None:
    exact = stats.binomtest(0, 50, alternative="less").proportion_ci(0.95, method="exact").high
    assert deviating_share_bound(50, 0.05) == pytest.approx(exact, rel=1e-9)


def test_few_differing_rows_get_the_adjusted_wald_interval() -> None:
    deltas = np.zeros(396)
    deltas[:3] = -1
    deltas[3] = 1
    found = interval(deltas, zero_one=True)
    assert found is not None
    assert found.method == "adjusted_wald"
    # Bonett and Price (2012), equation 5: one more gained, one more lost, two more rows.
    gained, lost, n = (1 + 1) / 398, (3 + 1) / 398, 398
    reach = 1.959964 * np.sqrt((gained + lost - (gained - lost) ** 2) / n)
    assert found.low == pytest.approx(gained - lost - reach, abs=1e-8)
    assert found.high == pytest.approx(gained - lost + reach, abs=1e-8)


def test_interval_of_a_ratio_is_that_of_scipy() -> None:
    draw = np.random.default_rng(6)
    total = draw.gamma(4.0, size=150)
    part = total * draw.beta(2, 5, size=150)
    low, high = bca_bounds(
        np.stack([part, total], axis=1),
        lambda means: means[..., 0] / means[..., 1],
        keyed_generator("ratio"),
        resamples=20_000,
    )

    def ratio(a: Floats, b: Floats, axis: int = -1) -> Floats:
        return np.asarray(a.mean(axis=axis) / b.mean(axis=axis))

    theirs = stats.bootstrap(
        (part, total), ratio, paired=True, n_resamples=20_000, rng=np.random.default_rng(7)
    )
    # Four times the bootstrap error of the quantiles (2 % of a standard error each).
    assert low == pytest.approx(
        theirs.confidence_interval.low, abs=0.1 * float(theirs.standard_error)
    )
    assert high == pytest.approx(
        theirs.confidence_interval.high, abs=0.1 * float(theirs.standard_error)
    )


def test_generators_are_keyed_by_all_their_names() -> None:
    def first(*names: object) -> float:
        return float(keyed_generator(*names).random())

    assert first("a", "bc") == first("a", "bc")
    assert len({first("a", "bc"), first("ab", "c"), first("abc"), first("bc", "a")}) == 4
    assert first("seed", 1) == first("seed", "1")
