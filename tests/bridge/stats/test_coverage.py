"""Coverage of the intervals and rates of false claims, on a few simulated cells.

`pytest -m soak tests/bridge/stats/test_coverage.py` takes all cells of `coverage.py`.
"""

from __future__ import annotations

import numpy as np
import pytest

from statebridge.papers.linear_translation.bootstrap import published_interval
from statebridge.stats.inference.hypothesis_tests import published_tost
from statebridge.stats.inference.intervals import Floats, clustered_interval
from tests.bridge.stats.coverage import (
    Limits,
    Measured,
    ceilings,
    continuous,
    difference,
    differences,
    equivalence,
    margins,
    measure,
    rejects,
    seeded,
    seeds,
    share,
    shares,
)
from tests.bridge.stats.simulated import (
    Study,
    continuous_study,
    discordant_study,
    exponential,
    gap_study,
    log_normal,
    normal,
    rare_rescues,
    seeded_accuracy_study,
)

TRIES = 250
ROWS, SEEDS = 396, 3
LEAST, MOST = 93.5, 97.5


def check(found: Measured, *, most: float = MOST) -> None:
    """Hold a coverage to its bars, within 2.5 Monte-Carlo standard errors."""
    assert found.shown > 0, found.study.name
    assert found.covered >= LEAST - 2.5 * found.error, found
    if found.study.rare >= 5 or not found.study.zero_one:
        assert found.covered <= most + 2.5 * found.error, found


@pytest.mark.slow
@pytest.mark.parametrize(
    "study",
    [
        discordant_study(32, 1, 0.2, 0.2),
        discordant_study(100, 1, 0.0, 0.01),
        discordant_study(396, 3, 0.0, 0.05),
        discordant_study(396, 3, 0.3, 0.1),
        gap_study(64, 1, 0.995, gap=1.0, floor=0.0),
        gap_study(64, 3, 0.9, gap=1.0, floor=0.0),
        gap_study(396, 3, 0.98, gap=1.0, floor=0.0),
        continuous_study("normal", normal, 32),
        continuous_study("exponential", exponential, 100, 3),
        continuous_study("log-normal 1.5", log_normal(1.5), 32),
        continuous_study("1 % rescued", rare_rescues(0.01, noise=0.3), 100),
    ],
    ids=lambda study: study.name,
)
def test_a_difference_is_covered_as_it_says(study: Study) -> None:
    check(measure(study, difference, TRIES))


@pytest.mark.parametrize(
    "study",
    [
        gap_study(64, 1, 0.01),
        gap_study(64, 3, 0.01),
        gap_study(100, 3, 0.99),
        gap_study(100, 1, 0.5),
        gap_study(396, 3, 0.1, gap=0.3),
        gap_study(396, 3, 0.0, gap=0.08, floor=0.02),
    ],
    ids=lambda study: study.name,
)
def test_a_share_of_the_gap_is_covered_as_it_says(study: Study) -> None:
    check(measure(study, share, TRIES))


def test_a_gap_of_a_few_rows_has_no_share() -> None:
    assert measure(gap_study(100, 3, 0.5, gap=0.05), share, 100).shown == 0


@pytest.mark.parametrize(
    "study",
    [
        seeded_accuracy_study(100, 3, 0.03),
        seeded_accuracy_study(396, 3, 0.01),
        seeded_accuracy_study(396, 3, 0.1),
    ],
    ids=lambda study: study.name,
)
def test_other_rows_and_seeds_are_covered_as_it_says(study: Study) -> None:
    check(measure(study, seeds, TRIES))


def test_these_seeds_alone_do_not_cover_other_seeds() -> None:
    assert measure(seeded_accuracy_study(396, 3, 0.03), difference, 200).covered < 90


@pytest.mark.parametrize(
    "study",
    [
        continuous_study("normal", normal, 32),
        continuous_study("log-normal 1.5", log_normal(1.5), 396),
        continuous_study("2 % rescued", rare_rescues(0.02), 396, 3),
    ],
    ids=lambda study: study.name,
)
def test_a_true_null_is_rejected_as_often_as_it_says(study: Study) -> None:
    found = measure(study, rejects, TRIES)
    # 5.5 %, and 2.5 standard errors.
    assert found.above + found.below <= 5.5 + 2.5 * found.error


@pytest.mark.slow
@pytest.mark.parametrize("runs", [1, 3])
@pytest.mark.parametrize("gained", [0.0, 0.01])
def test_equivalence_is_falsely_claimed_no_more_than_alpha(runs: int, gained: float) -> None:
    """The true mean is -0.05 exactly, so to find it within 0.05 is false."""
    study = discordant_study(200, runs, gained / 0.8, (0.05 + gained) / 0.8)
    found = measure(study, equivalence, 4 * TRIES)
    assert found.above <= 5.0 + 1.65 * 0.7  # standard error of 1,000 tries


def test_published_equivalence_is_claimed_too_often_for_losses() -> None:
    draw, tries = np.random.default_rng(14), 1500
    study = discordant_study(ROWS, SEEDS, 0.0, 0.03 / 0.8)
    found = [published_tost(study.draw(draw).deltas, [0.03]) for _ in range(tries)]
    assert sum(each is not None and each.margins[0].equivalent for each in found) / tries > 0.06


def accuracy_kept(draw: np.random.Generator) -> Floats:
    """Like `additive`: most texts change a little, right answers come and go, no net effect."""
    chance = draw.beta(0.25, 2.5, ROWS)  # mean 0.09: few rows are easy, most hopeless
    baseline = draw.random(ROWS) < chance
    changed = draw.random(ROWS) < 0.6
    shared = draw.random(ROWS) < chance
    outcomes = np.empty((ROWS, SEEDS), dtype=bool)
    for seed in range(SEEDS):
        own = draw.random(ROWS) < chance
        together = draw.random(ROWS) < 0.7
        outcomes[:, seed] = np.where(changed, np.where(together, shared, own), baseline)
    return outcomes - baseline[:, None].astype(float)


def test_the_pooled_interval_falls_short_the_default_does_not() -> None:
    draw, tries = np.random.default_rng(12), 100
    pooled_hits = hits = 0
    for _ in range(tries):
        deltas = accuracy_kept(draw)
        pooled = np.rint(deltas.T.ravel())  # seed after seed, as published
        low, high = published_interval(pooled, int(draw.integers(2**32)), 300)
        pooled_hits += low <= 0 <= high
        found = clustered_interval(deltas.mean(axis=1), bounded=True)
        assert found is not None
        hits += not found.excludes(0)
    # The pooled one covers about 75 to 80 %; 100 tries have a standard error of 4 %.
    assert pooled_hits / tries < 0.88
    assert hits / tries >= 0.9


@pytest.mark.soak
@pytest.mark.parametrize(
    ("studies", "limits"),
    [
        (differences(), difference),
        (ceilings(), difference),
        (shares(), share),
        (seeded(), seeds),
        (margins(), equivalence),
        (continuous(), difference),
    ],
    ids=[
        "differences",
        "ceilings",
        "shares",
        "seeds",
        "margins",
        "continuous",
    ],
)
def test_every_cell_is_covered_as_it_says(studies: list[Study], limits: Limits) -> None:
    for study in studies:
        found = measure(study, limits, 1000)
        if found.shown < 100:
            continue
        if limits is equivalence:
            assert max(found.above, found.below) <= 5.5 + 2.5 * 0.7, found
        else:
            check(found, most=100.0 if limits is share else 98.5)
