"""A few cells of `second_look.py`: intervals hold where all outcomes are counted, and elsewhere."""

from __future__ import annotations

import numpy as np
import pytest

from tests.bridge.stats.second_look import (
    RARE,
    Outcomes,
    cells,
    channel_coverage,
    donor_cell,
    probe_coverage,
    probe_scores,
    seed_cell,
)


@pytest.mark.parametrize("rows", [32, 45])
def test_every_cell_of_gained_and_lost_rows_is_covered(rows: int) -> None:
    outcomes = Outcomes(rows)
    for gained, lost, rare in cells(rows):
        covered = outcomes.covered(gained, lost)
        assert covered >= 0.9345, (gained, lost)
        if covered > 0.975:
            # Only where a kind of row is rare, and then a warning is shown with it.
            assert rare < RARE, (gained, lost)
            assert outcomes.stated(gained, lost) > 0.9, (gained, lost)


@pytest.mark.parametrize(("named", "right"), [(1.0, 0.9), (0.5, 1.0), (0.7, 0.8)])
def test_the_bits_of_a_channel_are_covered(named: float, right: float) -> None:
    covered, bounded = channel_coverage(40, 8, named, right)
    assert 93.5 <= covered <= 98.5
    assert bounded >= 96.5


def test_rows_do_not_cover_a_probe_of_unseen_answers() -> None:
    """Which is why such a probe has no interval."""
    scores = probe_scores(np.random.default_rng(1), 120, 12, 0.8, "answers", 40)
    assert probe_coverage(scores) < 80


def test_a_channel_that_carries_nothing_of_the_row_is_not_found() -> None:
    covered, found = donor_cell(np.random.default_rng(2), 64, 1, 0.0, 200, deranged=True)
    # 200 samples have a standard error of 1.5 %.
    assert covered >= 90
    assert found <= 5.5 + 2.5 * 1.5


@pytest.mark.parametrize(("own", "between"), [(0.0, 0.15), (0.0, 0.6), (6.0, 0.0)])
def test_other_seeds_are_covered_whatever_rows_have_in_common(own: float, between: float) -> None:
    covered = seed_cell(np.random.default_rng(3), 100, 3, own, between, 150)
    # 150 samples have a standard error of 1.8 %.
    assert covered >= 95 - 3 * 1.8
