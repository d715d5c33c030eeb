from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.weightstats import ttost_paired, ztest

from statebridge.stats.hypothesis_tests import Reference, tost
from statebridge.stats.intervals import Floats


def p_value(deltas: Floats, margin: float, *, zero_one: bool, reference: Reference) -> float:
    found = tost(deltas, [margin], zero_one=zero_one, reference=reference)
    assert found is not None
    return found.margins[0].p


def test_normal_reference_agrees_with_statsmodels() -> None:
    deltas = np.random.default_rng(1).normal(0.01, 0.2, size=300)
    lower = ztest(deltas, value=-0.03, alternative="larger")[1]
    upper = ztest(deltas, value=0.03, alternative="smaller")[1]
    mine = p_value(deltas, 0.03, zero_one=False, reference="normal")
    assert mine == pytest.approx(max(lower, upper), rel=1e-9)


def test_without_skew_it_is_the_paired_t_tost() -> None:
    # A symmetric sample has no skewness, so the corrected t is Student's.
    half = np.random.default_rng(2).gamma(1.0, size=60)
    deltas = np.concatenate([half, -half]) + 0.1
    theirs = ttost_paired(deltas, np.zeros(120), -0.4, 0.4)[0]
    mine = p_value(deltas, 0.4, zero_one=False, reference="skewness_corrected")
    assert mine == pytest.approx(theirs, rel=1e-6)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 1), st.floats(0.01, 0.5), st.booleans())
def test_it_never_claims_more_than_the_paired_t_tost(
    seed: int, margin: float, zero_one: bool
) -> None:
    deltas = np.random.default_rng(seed).choice([-1.0, -1 / 3, 0.0, 0.0, 1.0], size=80)
    if (deltas == deltas[0]).all():
        return
    sample = np.concatenate([deltas, [1.0, -1.0]]) if zero_one else deltas
    theirs = ttost_paired(sample, np.zeros(len(sample)), -margin, margin)[0]
    mine = p_value(deltas, margin, zero_one=zero_one, reference="skewness_corrected")
    assert mine >= theirs * (1 - 1e-9)


@settings(deadline=None, max_examples=100)
@given(
    st.integers(0, 2**32 - 1),
    st.floats(0.001, 0.6),
    st.booleans(),
    st.sampled_from(["normal", "skewness_corrected"]),
    st.integers(2, 60),
)
def test_a_margin_is_met_exactly_where_the_interval_lies_inside(
    seed: int, margin: float, zero_one: bool, reference: Reference, rows: int
) -> None:
    deltas = np.random.default_rng(seed).choice([-1.0, 0.0, 0.0, 0.0, 0.0, 1.0], size=rows)
    found = tost(deltas, [margin], zero_one=zero_one, reference=reference)
    if found is None:
        return
    low, high = found.interval.low, found.interval.high
    gap = min(margin - high, low + margin)
    if abs(gap) > 1e-6:  # nearer, the two may differ by rounding
        assert found.margins[0].equivalent == (gap > 0)
    assert found.ruled_out == max(abs(low), abs(high))
    assert found.interval.level == pytest.approx(0.90)


def hall(t_value: float, skewness: float, rows: int) -> float:
    """Hall (1992), the transformation g1, written with skewness and rows apart."""
    return float(
        t_value
        + skewness * t_value**2 / (3 * rows**0.5)
        + skewness**2 * t_value**3 / (27 * rows)
        + skewness / (6 * rows**0.5)
    )


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("margin", [0.3, 0.5])
def test_skewness_corrected_p_value_is_that_of_the_formula(sign: int, margin: float) -> None:
    deltas = sign * (np.random.default_rng(4).gamma(0.5, size=80) - 0.5)
    mean, error = deltas.mean(), deltas.std(ddof=1) / np.sqrt(80)
    skewness = float(stats.skew(deltas, bias=False))
    below, above = (mean + margin) / error, (margin - mean) / error
    expected = max(
        stats.t.sf(below, 79),
        stats.t.sf(hall(below, skewness, 80), 79),
        stats.t.sf(above, 79),
        stats.t.sf(hall(above, -skewness, 80), 79),
    )
    mine = p_value(deltas, margin, zero_one=False, reference="skewness_corrected")
    assert mine == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("shift", [-1.0, 0.0, 1.0])
def test_the_smallest_margin_ruled_out_has_a_p_value_of_alpha(sign: int, shift: float) -> None:
    deltas = sign * (np.random.default_rng(5).gamma(0.5, size=80) - 0.5) + shift
    found = tost(deltas, [0.1], zero_one=False)
    assert found is not None
    p = p_value(deltas, found.ruled_out, zero_one=False, reference="skewness_corrected")
    assert p == pytest.approx(0.05, rel=1e-6)


@pytest.mark.parametrize("rows", [50, 396])
def test_rows_that_all_tie_are_tested_exactly(rows: int) -> None:
    found = tost(np.zeros(rows), [0.05, 0.03], zero_one=True)
    assert found is not None
    # No row of n differs: the chance of that is (1 - margin)^n if the mean is at the margin.
    assert [verdict.p for verdict in found.margins] == pytest.approx([0.95**rows, 0.97**rows])
    assert found.interval.method == "exact_binomial"
    assert found.interval.high == pytest.approx(1 - 0.05 ** (1 / rows))
    for verdict in found.margins:
        assert verdict.equivalent == (found.interval.high < verdict.margin)


def test_constant_deltas_beyond_the_margin_are_not_equivalent() -> None:
    found = tost(np.full(100, -1.0), [0.05], zero_one=True)
    assert found is not None
    assert found.margins[0].p == 1.0


def test_nothing_can_be_said_of_one_row_or_of_no_variance() -> None:
    assert tost(np.array([0.0]), [0.05], zero_one=True) is None
    assert tost(np.zeros(9), [0.05], zero_one=False) is None
    assert tost(np.zeros(9), [0.05], zero_one=True, reference="normal") is None


def test_order_of_rows_does_not_matter() -> None:
    deltas = np.random.default_rng(3).gamma(1.0, size=77)
    for reference in ("normal", "skewness_corrected"):
        mine = tost(deltas, [0.5], zero_one=False, reference=reference)
        assert mine == tost(deltas[::-1].copy(), [0.5], zero_one=False, reference=reference)
