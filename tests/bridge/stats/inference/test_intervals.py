from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.regression.linear_model import OLS

from statebridge.stats.inference.intervals import (
    clustered_interval,
    keyed_generator,
    mean_and_sd,
    over_seeds,
    rows_leaving,
    seeds_agree,
)


def test_standard_error_is_that_of_a_cluster_robust_regression() -> None:
    draw = np.random.default_rng(5)
    rows, seeds = 120, 3
    deltas = draw.normal(size=(rows, 1)) + draw.normal(size=(rows, seeds))
    _, sd = mean_and_sd(deltas.mean(axis=1))
    fit = OLS(deltas.ravel(), np.ones(rows * seeds)).fit(
        cov_type="cluster",
        cov_kwds={"groups": np.repeat(np.arange(rows), seeds), "use_correction": False},
    )
    # statsmodels without its correction divides by rows instead of rows - 1.
    robust = fit.bse[0] * np.sqrt(rows / (rows - 1))
    assert sd / np.sqrt(rows) == pytest.approx(robust, rel=1e-12)


def test_one_row_and_constant_deltas_give_no_interval() -> None:
    assert clustered_interval(np.array([0.5]), bounded=False) is None
    assert clustered_interval(np.array([1.0]), bounded=True) is None
    assert clustered_interval(np.full(10, 0.25), bounded=False) is None


def test_differences_that_vary_by_rounding_alone_are_constant() -> None:
    deltas = (np.arange(20) + 0.3) - np.arange(20)
    assert len(set(deltas)) > 1
    assert clustered_interval(deltas, bounded=False) is None


@pytest.mark.parametrize("bounded", [True, False])
def test_an_interval_names_its_level_method_and_scope(bounded: bool) -> None:
    deltas = np.array([0.0, 1.0, -1.0, 0.5] * 10)
    found = clustered_interval(deltas, bounded=bounded, level=0.9)
    assert found is not None
    assert found.level == 0.9
    assert found.method == ("mover_mid_p" if bounded else "median_order_statistics")
    assert found.scope == "other rows with these seeds"


def with_seeds(by_seed: list[float], rows: int = 100, noise: float = 0.3) -> np.ndarray:
    """Deltas whose seeds have these means exactly."""
    draw = np.random.default_rng(1)
    own = noise * draw.normal(size=(rows, len(by_seed)))
    return own - own.mean(axis=0) + draw.normal(size=(rows, 1)) * noise + by_seed


@pytest.mark.parametrize("by_seed", [[0.1, 0.1, 0.1], [0.0, 0.5, 1.0], [0.2, 0.3, 0.1, 0.2, 0.4]])
def test_the_interval_over_seeds_holds_that_over_rows(by_seed: list[float]) -> None:
    deltas = with_seeds(by_seed)
    of_rows = clustered_interval(deltas.mean(axis=1), bounded=True)
    assert of_rows is not None
    wider = over_seeds(deltas, of_rows)
    assert wider.low <= of_rows.low
    assert wider.high >= of_rows.high
    assert wider.scope == "other rows and other seeds"


def test_where_only_seeds_differ_it_is_students_interval() -> None:
    by_seed = [0.0, 0.05, 0.1]
    deltas = with_seeds(by_seed, noise=1e-4)
    of_rows = clustered_interval(deltas.mean(axis=1), bounded=True)
    assert of_rows is not None
    reach = stats.t.ppf(0.975, 2) * np.std(by_seed, ddof=1) / math.sqrt(3)
    assert over_seeds(deltas, of_rows).high == pytest.approx(0.05 + reach, abs=0.001)
    assert over_seeds(10 * deltas, of_rows).high == 1.0


def test_seeds_that_do_not_differ_add_nothing() -> None:
    deltas = np.repeat((np.random.default_rng(2).random(50) < 0.4)[:, None], 3, axis=1).astype(
        float
    )
    of_rows = clustered_interval(deltas[:, 0], bounded=True)
    assert of_rows is not None
    wider = over_seeds(deltas, of_rows)
    assert (wider.low, wider.high) == pytest.approx((of_rows.low, of_rows.high))


def test_seeds_that_differ_by_the_noise_of_their_rows_agree() -> None:
    assert seeds_agree(with_seeds([0.10, 0.11, 0.12]))
    assert not seeds_agree(with_seeds([0.0, 0.1, 0.2]))
    same = with_seeds([0.1, 0.1, 0.1])[:, :1].repeat(3, axis=1)
    assert not seeds_agree(same)  # nothing is added for seeds then


def test_rows_that_leave_the_commonest_delta_are_counted() -> None:
    assert rows_leaving(np.array([1.0, 1.0, 1.0, 0.0])) == 1
    assert rows_leaving(np.zeros(5)) == 0


def test_generators_are_keyed_by_all_their_names() -> None:
    def first(*names: object) -> float:
        return float(keyed_generator(*names).random())

    assert first("a", "bc") == first("a", "bc")
    assert len({first("a", "bc"), first("ab", "c"), first("abc"), first("bc", "a")}) == 4
    assert first("seed", 1) == first("seed", "1")
