from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.contingency_tables import mcnemar

from statebridge.stats.hypothesis_tests import (
    continuity_corrected_mcnemar,
    exact_mcnemar,
    exact_mcnemar_over_seeds,
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
