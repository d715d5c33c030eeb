from __future__ import annotations

import numpy as np
import pytest
from statsmodels.stats.power import TTestPower

from statebridge.stats.hypothesis_tests import (
    cohens_dz,
    discordant_odds_ratio,
    minimal_detectable_effect,
)


@pytest.mark.parametrize("rows", [2, 5, 50, 396, 5000])
@pytest.mark.parametrize("power", [0.5, 0.8, 0.95])
def test_minimal_detectable_effect_agrees_with_statsmodels(rows: int, power: float) -> None:
    mine = minimal_detectable_effect(0.3, rows, power=power)
    # The right-hand side of a two-sided test at 0.05 is a one-sided test at 0.025.
    theirs = TTestPower().solve_power(nobs=rows, alpha=0.025, power=power, alternative="larger")
    assert mine == pytest.approx(0.3 * theirs, rel=1e-4)  # its solver stops at about 1e-5


def test_an_effect_of_that_size_is_found_that_often() -> None:
    rows, sd, tries = 40, 0.5, 20_000
    effect = minimal_detectable_effect(sd, rows)
    assert effect is not None
    samples = np.random.default_rng(1).normal(effect, sd, size=(tries, rows))
    t_values = samples.mean(axis=1) / (samples.std(axis=1, ddof=1) / np.sqrt(rows))
    found = (t_values > 2.0227).mean()  # the 97.5 % quantile of t with 39 degrees of freedom
    assert found == pytest.approx(0.80, abs=0.012)  # four standard errors of 20,000 tries


def test_nothing_is_detectable_without_rows_or_variance() -> None:
    assert minimal_detectable_effect(0.3, 1) is None
    assert minimal_detectable_effect(0.0, 100) is None


def test_effect_sizes() -> None:
    assert cohens_dz(0.5, 2.0) == 0.25
    assert cohens_dz(0.5, 0.0) is None
    assert discordant_odds_ratio(6, 3) == 2.0
    assert discordant_odds_ratio(6, 0) is None
