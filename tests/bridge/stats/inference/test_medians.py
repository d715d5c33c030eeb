from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from statebridge.stats.inference.medians import median_limits
from tests.bridge.stats.simulated import Shape, log_normal, middle, normal, rare_rescues, student_3


def exact_level(rows: int, level: float, *, exact: bool) -> float:
    """Chance that the limits hold the median, from the ranks of the two rows that they are."""
    low, _ = median_limits(np.arange(float(rows)), level, exact=exact)
    return 1.0 - 2.0 * float(stats.binom.cdf(low, rows, 0.5)) if math.isfinite(low) else 1.0


def test_of_32_rows_and_more_the_level_is_near_95_percent() -> None:
    levels = [exact_level(rows, 0.95, exact=False) for rows in range(32, 400)]
    assert 0.935 <= min(levels) < 0.94
    assert 0.965 < max(levels) <= 0.972


@pytest.mark.parametrize("level", [0.9, 0.95, 0.9958])
def test_exact_limits_have_at_least_their_level(level: float) -> None:
    assert min(exact_level(rows, level, exact=True) for rows in range(2, 150)) >= level


def test_limits_are_those_of_the_quantile_test_of_scipy() -> None:
    deltas = np.random.default_rng(1).gamma(1.0, size=41)
    theirs = stats.quantile_test(deltas).confidence_interval(0.95)
    assert median_limits(deltas, 0.95, exact=True) == (theirs.low, theirs.high)


def test_few_rows_give_no_limits() -> None:
    assert median_limits(np.arange(4.0), 0.95) == (-math.inf, math.inf)
    assert median_limits(np.arange(5.0), 0.95, exact=True) == (-math.inf, math.inf)
    assert median_limits(np.arange(6.0), 0.95, exact=True) == (0.0, 5.0)


@pytest.mark.slow
@pytest.mark.parametrize("rows", [32, 100])
@pytest.mark.parametrize(
    "shape",
    [normal, student_3, log_normal(1.5), rare_rescues(0.01, noise=0.3)],
    ids=["normal", "Student", "log-normal", "rescued"],
)
def test_the_median_is_covered_whatever_the_distribution(shape: Shape, rows: int) -> None:
    draw, tries = np.random.default_rng(3), 400
    limits = [median_limits(shape(draw, rows), 0.95) for _ in range(tries)]
    hits = sum(low <= middle(shape) <= high for low, high in limits)
    # The exact level, and four standard errors of 400 samples.
    assert hits / tries == pytest.approx(exact_level(rows, 0.95, exact=False), abs=0.047)


def test_order_of_rows_does_not_matter() -> None:
    deltas = np.random.default_rng(2).normal(size=50)
    assert median_limits(deltas, 0.9) == median_limits(deltas[::-1], 0.9)
