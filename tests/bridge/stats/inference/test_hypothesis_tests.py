from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import ztest

from statebridge.stats.inference.hypothesis_tests import (
    cohens_dz,
    continuity_corrected_mcnemar,
    discordant_odds_ratio,
    exact_mcnemar,
    exact_mcnemar_over_seeds,
    holm,
    holm_by_family,
    published_tost,
    tost,
)

COUNTS = [(0, 1), (1, 0), (3, 9), (9, 3), (28, 30), (16, 11), (1, 35), (120, 9)]


@pytest.mark.parametrize(("gained", "lost"), [*COUNTS, (5, 5)])
def test_exact_agrees_with_statsmodels(gained: int, lost: int) -> None:
    theirs = mcnemar([[100, lost], [gained, 100]], exact=True).pvalue
    assert exact_mcnemar(gained, lost) == pytest.approx(theirs, rel=1e-9)


@pytest.mark.parametrize(("gained", "lost"), COUNTS)
def test_corrected_agrees_with_statsmodels(gained: int, lost: int) -> None:
    theirs = mcnemar([[100, lost], [gained, 100]], exact=False, correction=True).pvalue
    assert continuity_corrected_mcnemar(gained, lost) == pytest.approx(theirs, rel=1e-9)


def test_equal_counts_and_no_counts_give_one() -> None:
    for count in (0, 5):
        assert exact_mcnemar(count, count) == 1.0
        # The published script takes max(|b - c| - 1, 0); statsmodels would square -1.
        assert continuity_corrected_mcnemar(count, count) == 1.0


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 20))
def test_over_one_seed_it_is_the_exact_test(gained: int, lost: int, tied: int) -> None:
    sums = np.array([1] * gained + [-1] * lost + [0] * tied, dtype=np.int64)
    assert exact_mcnemar_over_seeds(sums) == pytest.approx(exact_mcnemar(gained, lost), rel=1e-9)


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=10))
def test_over_seeds_it_counts_all_sign_flips(sums: list[int]) -> None:
    flips = [
        abs(sum(sign * value for sign, value in zip(signs, sums, strict=True)))
        for signs in product((-1, 1), repeat=len(sums))
    ]
    share = sum(flip >= abs(sum(sums)) for flip in flips) / len(flips)
    found = exact_mcnemar_over_seeds(np.array(sums, dtype=np.int64))
    assert found == pytest.approx(share, rel=1e-9)


def test_many_rows_over_seeds() -> None:
    found = exact_mcnemar_over_seeds(np.array([-3] * 200 + [3, 2, 1], dtype=np.int64))
    assert 0 < found < 1e-50  # a sum of positive terms keeps its digits far out in the tail


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 4, 11])
def test_holm_agrees_with_statsmodels(size: int) -> None:
    # Rounded, so that some are equal; cubed, so that some stay below 1.
    p_values = np.round(np.random.default_rng(size).random(size) ** 3, 2).tolist()
    theirs = multipletests(p_values, method="holm")[1]
    assert holm(p_values) == pytest.approx(list(theirs), abs=1e-12)


def test_families_are_corrected_apart_and_none_does_not_count() -> None:
    found = holm_by_family([0.01, None, 0.04, 0.03], ["a", "a", "b", "a"])
    assert found == [0.02, None, 0.04, 0.03]
    assert holm([]) == []


def test_effect_sizes() -> None:
    assert cohens_dz(0.5, 2.0) == 0.25
    assert cohens_dz(0.5, 0.0) is None
    assert discordant_odds_ratio(6, 3) == 2.0
    assert discordant_odds_ratio(6, 0) is None


def test_published_tost_agrees_with_statsmodels() -> None:
    deltas = np.random.default_rng(1).normal(0.01, 0.2, size=300)
    lower = ztest(deltas, value=-0.03, alternative="larger")[1]
    upper = ztest(deltas, value=0.03, alternative="smaller")[1]
    found = published_tost(deltas, [0.03])
    assert found is not None
    assert found.margins[0].p == pytest.approx(max(lower, upper), rel=1e-9)


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 2**32 - 1), st.floats(0.001, 0.6), st.integers(2, 60))
def test_a_margin_is_met_exactly_where_the_interval_lies_inside(
    seed: int, margin: float, rows: int
) -> None:
    deltas = np.random.default_rng(seed).choice([-1.0, 0.0, 0.0, 0.0, 0.0, 1.0], size=rows)
    found = tost(deltas, [margin])
    if found is None:
        return
    low, high = found.interval.low, found.interval.high
    gap = min(margin - high, low + margin)
    if abs(gap) > 1e-6:  # nearer, the two may differ by rounding
        assert (found.margins[0].p <= 0.05) == (gap > 0)
    assert found.ruled_out == max(abs(low), abs(high))
    assert found.interval.level == pytest.approx(0.90)


@pytest.mark.parametrize("rows", [50, 396])
def test_rows_that_all_tie_are_tested_exactly(rows: int) -> None:
    found = tost(np.zeros(rows), [0.05, 0.03])
    assert found is not None
    # No row of n differs: the chance of that is (1 - margin)^n if the mean is at the margin.
    assert [verdict.p for verdict in found.margins] == pytest.approx([0.95**rows, 0.97**rows])
    assert found.interval.method == "mover_exact"
    assert found.interval.high == pytest.approx(1 - 0.05 ** (1 / rows))
    for verdict in found.margins:
        assert verdict.equivalent == (found.interval.high < verdict.margin)


def test_constant_deltas_beyond_the_margin_are_not_equivalent() -> None:
    found = tost(np.full(100, -1.0), [0.05])
    assert found is not None
    assert found.margins[0].p > 0.999


def test_nothing_can_be_said_of_one_row_or_of_no_variance() -> None:
    assert tost(np.array([0.0]), [0.05]) is None
    assert published_tost(np.zeros(9), [0.05]) is None
    assert published_tost(np.array([0.0]), [0.05]) is None


def test_order_of_rows_does_not_matter() -> None:
    deltas = np.random.default_rng(3).gamma(1.0, size=77)
    assert published_tost(deltas, [0.5]) == published_tost(deltas[::-1].copy(), [0.5])
    mine = tost(deltas, [0.5])
    assert mine == tost(deltas[::-1].copy(), [0.5])
