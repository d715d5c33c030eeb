from __future__ import annotations

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from statebridge.stats.hypothesis_tests import holm, holm_by_family


@pytest.mark.parametrize("size", range(1, 12))
def test_holm_agrees_with_statsmodels(size: int) -> None:
    # Rounded, so that some are equal; cubed, so that some stay below 1.
    p_values = np.round(np.random.default_rng(size).random(size) ** 3, 2).tolist()
    theirs = multipletests(p_values, method="holm")[1]
    assert holm(p_values) == pytest.approx(list(theirs), abs=1e-12)


def test_families_are_corrected_apart_and_none_does_not_count() -> None:
    found = holm_by_family([0.01, None, 0.04, 0.03], ["a", "a", "b", "a"])
    assert found == [0.02, None, 0.04, 0.03]
    assert holm([]) == []
