"""The smallest difference that a test finds, in a family of many and alone."""

from __future__ import annotations

import numpy as np
import pytest

from statebridge.stats import Settings, compare
from statebridge.stats.inference.detectable import detectable_median, detectable_share
from statebridge.stats.inference.hypothesis_tests import exact_mcnemar, exact_mcnemar_over_seeds
from statebridge.stats.inference.intervals import Floats
from statebridge.stats.inference.means import BoundedMean
from tests.bridge.stats.simulated import Shape, exponential, normal, student_3
from tests.bridge.stats.tables import METRIC, cell, results


def median_power(rows: int, shape: Shape, tries: int, family: int = 1) -> float:
    """Share of samples in which the sign test finds a median of the detectable size."""
    draw = np.random.default_rng(rows)
    hits = 0
    for _ in range(tries):
        size = detectable_median(shape(draw, rows), alpha=0.05 / family)
        assert size is not None
        found = shape(draw, rows) - np.median(shape(draw, 4001)) + size
        above = int((found > 0).sum())
        hits += above > rows / 2 and exact_mcnemar(above, rows - above) <= 0.05 / family
    return hits / tries


@pytest.mark.parametrize("shape", [normal, student_3])
def test_a_median_of_that_size_is_found_that_often(shape: Shape) -> None:
    # Four standard errors of 300 samples are 9 points; the size is itself an estimate.
    assert 0.68 <= median_power(100, shape, 300) <= 0.92


@pytest.mark.soak
@pytest.mark.parametrize("rows", [32, 100, 396, 1000])
@pytest.mark.parametrize("family", [1, 10])
@pytest.mark.parametrize("shape", [normal, student_3, exponential])
def test_power_of_the_median_over_many_cells(rows: int, family: int, shape: Shape) -> None:
    found = median_power(rows, shape, 2000, family)
    print(f"\n| {shape.__name__} | {rows} | {family} | {found:.1%} |", end="")
    assert 0.78 <= found <= 1.0


def test_nothing_is_detectable_without_rows_or_variance() -> None:
    assert detectable_median(np.array([0.3, 0.1, 0.2, 0.4, 0.5])) is None
    assert detectable_median(np.zeros(100)) is None
    # Five rows, all gained, have p = 0.0625.
    assert detectable_share(np.zeros(5), 1) is None
    assert detectable_share(np.zeros(6), 1) is not None


def found_share(rows: int, runs: int, discordance: float, family: int, tries: int) -> float:
    """Share of samples in which the test at 0.05 / family finds the detectable difference."""
    draw = np.random.default_rng(rows + runs)
    seen = _seen_sums(rows, runs, discordance, draw)
    size = detectable_share(seen, runs, alpha=0.05 / family)
    assert size is not None
    sizes = np.abs(seen[seen != 0]) if seen.any() else np.array([float(runs)])
    each = float(sizes.mean()) / runs
    share = max(np.count_nonzero(seen) / rows, size / each)
    hits = 0
    for _ in range(tries):
        # Rows differ under as many seeds as those that were seen to.
        drawn = draw.choice(sizes, rows) * (draw.random(rows) < share)
        gained = draw.random(rows) < (1 + size / (share * each)) / 2
        sums = np.where(gained, drawn, -drawn)
        p = exact_mcnemar_over_seeds(sums.astype(np.int64))
        if runs > 1 and p <= 0.05 / family:
            p = max(p, 2.0 * BoundedMean(sums / runs).p_above(0.0))
        hits += p <= 0.05 / family and sums.sum() > 0
    return hits / tries


def _seen_sums(rows: int, runs: int, discordance: float, draw: np.random.Generator) -> Floats:
    """Sums with as many differing rows as are expected, half of them gained."""
    differing = round(rows * discordance)
    sums = np.zeros(rows)
    sums[:differing] = draw.binomial(runs - 1, 0.5, differing) + 1
    sums[: differing // 2] *= -1
    return sums


CELLS = [
    (rows, runs, discordance, family)
    for rows in (32, 64, 200, 396, 1000)
    for runs in (1, 3, 5)
    for discordance in (0.0, 0.05, 0.3)
    for family in (1, 10)
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rows", "runs", "discordance", "family"), [(396, 1, 0.1, 10), (64, 3, 0.2, 1)]
)
def test_a_share_of_that_size_is_found_that_often(
    rows: int, runs: int, discordance: float, family: int
) -> None:
    # Four standard errors of 400 tries are 8 points. The audit found 37 to 43 %, and 74 to 76 %
    # alone, where Holm's correction and the exact test were left out.
    assert 0.72 <= found_share(rows, runs, discordance, family, 400) <= 0.92


@pytest.mark.soak
@pytest.mark.parametrize(("rows", "runs", "discordance", "family"), CELLS)
def test_power_over_many_cells(rows: int, runs: int, discordance: float, family: int) -> None:
    found = found_share(rows, runs, discordance, family, 4000)
    print(f"\n| {rows} | {runs} | {discordance:.0%} | {family} | {found:.1%} |", end="")
    # With several seeds at least as often: rows that differ under some of them enter cautiously.
    assert 0.77 <= found <= (0.83 if runs == 1 else 1.0)


def test_a_family_makes_the_detectable_size_larger() -> None:
    baseline = cell("no_inject", [1, 0] * 50)
    others = [cell(f"c{i}", [1, 0] * 45 + [0, 1] * 5) for i in range(6)]
    settings = Settings(permutations=99, stratify_by=())
    sizes = []
    for held in (others[:1], others):
        found = compare(results(baseline, *held), metrics=[METRIC], settings=settings)
        first = found.differences[0]
        assert first.effect is not None
        assert first.family == len(held)
        sizes.append(first.effect.minimal_detectable)
    assert sizes[0] is not None
    assert sizes[1] is not None
    assert sizes[1] > 1.1 * sizes[0]
