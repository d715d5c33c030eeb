from __future__ import annotations

import numpy as np
import pytest

from statebridge.records import CellResult, ResultSet
from statebridge.stats import GapClosed, Settings, compare
from statebridge.stats.setting import channel_settings
from tests.bridge.stats.tables import METRIC, SEEDS, cell, measured, results

ROWS = 300
QUICK = Settings(resamples=2000, stratify_by=())
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
    assert (nothing.value, nothing.interval.low, nothing.interval.high) == (0.0, 0.0, 0.0)
    assert (everything.value, everything.interval.low) == (1.0, 1.0)


def test_the_interval_agrees_with_the_delta_method() -> None:
    found = gap(private(15 + 112))
    assert found.share is not None
    part = np.array([0] * 15 + [1] * 112 + [0] * (ROWS - 127), dtype=float)
    total = np.array([0] * 15 + [1] * 225 + [0] * (ROWS - 240), dtype=float)
    ratio = part.sum() / total.sum()
    error = (part - ratio * total).std(ddof=1) / np.sqrt(ROWS) / total.mean()
    low, high = ratio - 1.96 * error, ratio + 1.96 * error
    # The bootstrap's own noise at 2,000 resamples is about 3 % of an interval's width.
    assert found.share.interval.low == pytest.approx(low, abs=0.012)
    assert found.share.interval.high == pytest.approx(high, abs=0.012)


def test_no_gap_no_share() -> None:
    found = gap(private(15, ceiling=FLOOR))
    assert found.share is None
    assert found.no_share_because is not None
    assert "not clearly above the floor" in found.no_share_because


def test_log_probability_has_a_share_and_a_rank_has_none() -> None:
    rng = np.random.default_rng(5)
    floor, noise = rng.normal(-8, 1, ROWS), rng.normal(0, 0.1, ROWS)
    names = {"question_only": 0.0, "skyline": 6.0, "private_last": 3.0}
    for field in ("gold_logprob", "gold_rank"):
        cells = [
            measured(name, field, list(floor + add * (1 + noise))) for name, add in names.items()
        ]
        found = compare(results(*cells), settings=QUICK, metrics=[field]).gaps_closed
        assert len(found) == (1 if field == "gold_logprob" else 0)
        if found:
            assert found[0].share is not None
            assert found[0].share.value == pytest.approx(0.5)
            assert found[0].share.interval.low <= 0.5 <= found[0].share.interval.high


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
