from __future__ import annotations

import numpy as np
import pytest

from statebridge.errors import ResultError
from statebridge.records import CellResult, ResultSet
from statebridge.stats import FailureChain, compare
from statebridge.stats.pairing import Pairing
from statebridge.stats.shares import failure_chain
from tests.bridge.stats.tables import METRIC, SEEDS, cell, measured, results


def chain(table: ResultSet, metric: str = METRIC) -> FailureChain:
    return failure_chain(Pairing(table), "fwd", "no_inject", metric, resamples=4000)


def kept(share: float, base: list[int], seed: int) -> list[int]:
    """Outcomes that keep a share of the baseline's right rows."""
    draw = np.random.default_rng(seed).random(len(base)) < share
    return [int(right and keep) for right, keep in zip(base, draw, strict=True)]


def losing(corrected_keeps: float) -> ResultSet:
    base = [1] * 60 + [0] * 340
    cells = [cell("no_inject", base)]
    for seed in SEEDS:
        cells.append(cell("replace", [0] * 400, seed))
        cells.append(cell("scale_corrected", kept(corrected_keeps, base, seed), seed))
    return results(*cells)


def test_the_parts_add_up() -> None:
    found = chain(losing(0.25))
    assert found.total_loss == pytest.approx(60 / 400)
    assert found.norm_loss + found.direction_loss == pytest.approx(found.total_loss)
    assert found.norm_share is not None
    assert found.direction_share is not None
    assert found.norm_share.value == pytest.approx(found.norm_loss / found.total_loss)
    assert found.norm_share.value + found.direction_share.value == pytest.approx(1.0)
    norm, direction = found.norm_share.interval, found.direction_share.interval
    assert (norm.low, norm.high) == pytest.approx((1 - direction.high, 1 - direction.low))
    assert norm.low < 0.25 < norm.high
    assert found.no_shares_because is None
    assert found.seeds == (123, 42, 456)


def test_a_loss_that_is_all_direction() -> None:
    found = chain(losing(0.0))
    assert found.direction_share is not None
    assert found.direction_share.value == 1.0
    interval = found.direction_share.interval
    assert (interval.low, interval.high) == (1.0, 1.0)


def test_interval_of_the_share_agrees_with_the_delta_method() -> None:
    table = losing(0.4)
    found = chain(table)
    by_id = {
        c.name: np.array([int(r.prediction == "it is gold") for r in c.lanes]) for c in table.cells
    }
    base = by_id["no_inject"]
    corrected = np.mean([by_id[f"scale_corrected/seed{s}"] for s in SEEDS], axis=0)
    total = base.astype(float)  # `replace` keeps nothing
    residual = corrected - corrected.sum() / total.sum() * total
    error = residual.std(ddof=1) / np.sqrt(400) / total.mean()
    assert found.norm_share is not None
    low, high = found.norm_share.interval.low, found.norm_share.interval.high
    # BCa differs from the normal interval by skewness, a tenth of its width at this n.
    assert (high - low) == pytest.approx(2 * 1.96 * error, rel=0.1)


def test_no_shares_of_a_loss_that_may_be_none() -> None:
    base = [1, 0] * 50
    same = results(
        cell("no_inject", base), cell("replace", base, 42), cell("scale_corrected", base, 42)
    )
    found = chain(same)
    assert found.total_loss == 0
    assert found.norm_share is None
    assert found.direction_share is None
    assert found.no_shares_because is not None
    assert "not clearly above zero" in found.no_shares_because


def test_no_shares_of_a_gain() -> None:
    better = results(
        cell("no_inject", [0] * 100),
        cell("replace", [1] * 40 + [0] * 60, 42),
        cell("scale_corrected", [1] * 50 + [0] * 50, 42),
    )
    found = chain(better)
    assert found.total_loss == pytest.approx(-0.4)
    assert found.norm_share is None


def test_no_shares_without_an_interval() -> None:
    found = chain(
        results(
            measured("no_inject", "gold_logprob", [0.0] * 5),
            measured("replace", "gold_logprob", [-1.0] * 5, 42),
            measured("scale_corrected", "gold_logprob", [-0.5] * 5, 42),
        ),
        "gold_logprob",
    )
    assert found.total_loss == 1.0
    assert found.no_shares_because == "the rows give no interval for the total loss"


def test_continuous_losses_have_shares_too() -> None:
    draw = np.random.default_rng(3)
    base = draw.normal(-2, 1, size=80)
    lost = draw.gamma(2.0, size=80)
    found = chain(
        results(
            measured("no_inject", "gold_logprob", base.tolist()),
            measured("replace", "gold_logprob", (base - lost).tolist(), 42),
            measured("scale_corrected", "gold_logprob", (base - 0.7 * lost).tolist(), 42),
        ),
        "gold_logprob",
    )
    assert found.norm_share is not None
    assert found.norm_share.value == pytest.approx(0.3)
    assert found.norm_share.interval.high - found.norm_share.interval.low < 1e-9


def test_only_seeds_and_rows_of_both_conditions_count() -> None:
    table = results(
        cell("no_inject", [1] * 20 + [0] * 20),
        cell("replace", [0] * 40, 42),
        cell("replace", [1] * 20 + [0] * 20, 7),
        cell("scale_corrected", [1] * 10 + [0] * 29, 42, excluded_rows=1),
        cell("scale_corrected", [0] * 40, 9),
    )
    found = chain(table)
    assert found.seeds == (42,)
    assert found.n_rows == 39
    assert found.norm_share is not None
    assert found.norm_share.value == pytest.approx(0.5)


def test_conditions_without_a_common_seed_are_said_not_guessed() -> None:
    cells: list[CellResult] = [
        cell("no_inject", [1, 0, 1]),
        cell("replace", [0, 0, 1], 42),
        cell("scale_corrected", [0, 0, 1], 43),
    ]
    with pytest.raises(ResultError, match="have no seed in common"):
        chain(results(*cells))
    found = compare(results(*cells), metrics=[METRIC])
    assert found.failure_chains == ()
    assert any(line.startswith("no failure chain: ") for line in found.warnings)
