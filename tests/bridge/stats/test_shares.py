from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from statebridge.errors import ResultError
from statebridge.records import CellResult, ResultSet
from statebridge.stats import FailureChain, GapClosed, Settings, compare
from statebridge.stats.inference.intervals import clustered_interval
from statebridge.stats.pairing import Pairing
from statebridge.stats.setting import channel_settings
from statebridge.stats.shares import failure_chain, share_of
from tests.bridge.stats.tables import METRIC, SEEDS, cell, measured, results


def chain(table: ResultSet, metric: str = METRIC) -> FailureChain:
    return failure_chain(Pairing(table), "fwd", "no_inject", metric)


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
    # None of 60 lost rows came back: one in twenty (3 of 60) may do so among others.
    interval = found.direction_share.interval
    assert interval.low == pytest.approx(0.95, abs=0.01)
    assert interval.high > 1.0


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
    # With three seeds and 60 rows, the limits allow for a row that all seeds would lose.
    assert 2 * 1.96 * error < high - low < 1.3 * 2 * 1.96 * error


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


def test_losses_without_bounds_have_no_chain() -> None:
    table = results(
        measured("no_inject", "gold_logprob", [0.0] * 5),
        measured("replace", "gold_logprob", [-1.0, -2.0, -1.0, -3.0, -1.0], 42),
        measured("scale_corrected", "gold_logprob", [-0.5] * 5, 42),
    )
    with pytest.raises(ResultError, match="gold_logprob has no bounds"):
        chain(table, "gold_logprob")
    assert compare(table, settings=QUICK).failure_chains == ()


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


ROWS = 300
QUICK = Settings(stratify_by=())
FLOOR = [1] * 15 + [0] * (ROWS - 15)
CEILING = [1] * 240 + [0] * (ROWS - 240)


def channel(right: int) -> list[CellResult]:
    """The channel gets the first rows right, the same ones under every seed."""
    outcomes = [1] * right + [0] * (ROWS - right)
    return [cell("private_last", outcomes, seed) for seed in SEEDS]


def private(right: int, ceiling: list[int] = CEILING) -> ResultSet:
    return results(cell("question_only", FLOOR), cell("skyline", ceiling), *channel(right))


def gap(table: ResultSet, condition: str = "private_last", metric: str = METRIC) -> GapClosed:
    found = compare(table, settings=QUICK, metrics=[metric]).gaps_closed
    (one,) = [each for each in found if each.condition == condition]
    return one


def test_half_of_the_gap() -> None:
    found = gap(private(15 + 112))
    assert found.gap == pytest.approx(225 / ROWS)
    assert found.closed == pytest.approx(112 / ROWS)
    assert found.share is not None
    assert found.share.value == pytest.approx(112 / 225)
    assert (found.runs, found.n_rows) == (3, ROWS)


def test_all_and_nothing_of_the_gap() -> None:
    nothing, everything = gap(private(15)).share, gap(private(240)).share
    assert nothing is not None
    assert everything is not None
    # None of 300 rows moved, so 3 of 300 may be moved either way: 0.01 of a gap of 0.75.
    assert nothing.value == 0.0
    assert nothing.interval.low == pytest.approx(-0.0135, abs=0.001)
    assert nothing.interval.high == pytest.approx(0.0135, abs=0.001)
    assert everything.value == 1.0
    assert everything.interval.low == pytest.approx(1 - 0.0135, abs=0.001)
    assert everything.interval.high > 1.0


def test_the_interval_agrees_with_the_delta_method() -> None:
    found = gap(private(15 + 112))
    assert found.share is not None
    part = np.array([0] * 15 + [1] * 112 + [0] * (ROWS - 127), dtype=float)
    total = np.array([0] * 15 + [1] * 225 + [0] * (ROWS - 240), dtype=float)
    ratio = part.sum() / total.sum()
    error = (part - ratio * total).std(ddof=1) / np.sqrt(ROWS) / total.mean()
    low, high = ratio - 1.96 * error, ratio + 1.96 * error
    # Mid-P limits differ from normal ones by less than a row of 225.
    assert found.share.interval.low == pytest.approx(low, abs=0.012)
    assert found.share.interval.high == pytest.approx(high, abs=0.012)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 225), st.integers(0, 40), st.integers(0, 15))
def test_a_share_never_contradicts_the_differences_beside_it(
    closed: int, beyond: int, spoilt: int
) -> None:
    """The channel closes rows of the gap, gains rows beyond it, and spoils rows of the floor."""
    floor, ceiling = np.array(FLOOR, dtype=float), np.array(CEILING, dtype=float)
    channel = floor.copy()
    channel[15 : 15 + closed] = 1.0
    channel[240 : 240 + beyond] = 1.0
    channel[:spoilt] = 0.0
    share, _ = share_of(channel - floor, ceiling - floor)
    assert share is not None
    assert share.interval.low < share.value < share.interval.high
    above_floor = clustered_interval(channel - floor, bounded=True)
    to_ceiling = clustered_interval(channel - ceiling, bounded=True)
    assert above_floor is not None
    assert to_ceiling is not None
    assert share.interval.excludes(0) == above_floor.excludes(0)
    assert share.interval.excludes(1) == to_ceiling.excludes(0)


@pytest.mark.parametrize(("right", "given"), [(15, False), (16, True)])
def test_a_gap_under_four_standard_errors_has_no_share(right: int, given: bool) -> None:
    # Of a gap of k rows of many the error is about sqrt(k): 15 rows are 3.97 errors, 16 are 4.1.
    whole = np.array([1.0] * right + [0.0] * (ROWS - right))
    share, reason = share_of(whole / 2, whole)
    assert (share is not None) == given
    assert given or "standard errors from zero, and a share needs 4" in str(reason)


def test_no_gap_no_share() -> None:
    found = gap(private(15, ceiling=FLOOR))
    assert found.share is None
    assert found.no_share_because is not None
    assert "not clearly above the floor" in found.no_share_because


def test_log_probability_has_a_gap_without_a_share() -> None:
    rng = np.random.default_rng(5)
    floor, noise = rng.normal(-8, 1, ROWS), rng.normal(0, 0.1, (2, ROWS))
    names = {"question_only": 0.0, "skyline": 6.0, "private_last": 3.0}
    for field, sign in (("gold_logprob", 1), ("gold_rank", -1)):
        cells = [
            measured(name, field, list(sign * (floor + add * (1 + noise[int(add > 3)]) - 9)))
            for name, add in names.items()
        ]
        found = compare(results(*cells), settings=QUICK, metrics=[field]).gaps_closed
        assert len(found) == (1 if field == "gold_logprob" else 0)
        if found:
            assert found[0].share is None
            assert "has no bounds" in str(found[0].no_share_because)
            assert (found[0].gap, found[0].closed) == pytest.approx((6, 3), abs=0.2)
            assert found[0].gap_interval is not None
            assert not found[0].gap_interval.excludes(found[0].gap)


def test_conditions_are_compared_within_their_setting() -> None:
    table = results(
        cell("no_inject", CEILING),
        cell("zero_replacement", [0] * ROWS),
        cell("nl_relay", FLOOR),
        cell("question_only", FLOOR),
        cell("skyline", CEILING),
        *channel(100),
        cell("placeholder_only", FLOOR),
        *[cell("private_placeholder", FLOOR, seed) for seed in SEEDS],
    )
    shared, question, placeholder = channel_settings(table)
    assert [s.floor for s in (shared, question, placeholder)] == [
        "no_inject",
        "question_only",
        "placeholder_only",
    ]
    assert shared.conditions == {"no_inject", "zero_replacement", "nl_relay"}
    assert question.conditions == {"question_only", "skyline", "private_last", "nl_relay"}
    assert (shared.ceiling, question.ceiling) == (None, "skyline")
    found = compare(table, settings=QUICK, metrics=[METRIC])
    pairs = {(d.condition, d.baseline) for d in found.differences}
    assert ("private_last", "question_only") in pairs
    assert ("private_last", "no_inject") not in pairs
    assert ("zero_replacement", "no_inject") in pairs
    assert ("private_placeholder", "placeholder_only") in pairs
    assert {g.condition for g in found.gaps_closed} == {
        "private_last",
        "nl_relay",
        "private_placeholder",
    }


def test_a_private_run_has_no_shared_setting() -> None:
    (only,) = channel_settings(private(20))
    assert only.private
    assert compare(private(20), settings=QUICK, metrics=[METRIC]).baselines == ("question_only",)


def test_named_baselines_are_compared_with_everything() -> None:
    found = compare(private(20), "skyline", settings=QUICK, metrics=[METRIC])
    assert {d.condition for d in found.differences} == {"question_only", "private_last"}
