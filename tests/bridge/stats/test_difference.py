from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binomtest

from statebridge.stats import Comparison, Difference, Settings, compare
from tests.bridge.stats.simulated import SEED_NAMES, seeded_accuracy_study
from tests.bridge.stats.tables import METRIC, cell, measured, results

QUICK = Settings(stratify_by=())


def of_seeds(seeds: Sequence[int | None]) -> Difference:
    draw = np.random.default_rng(1)
    cells = [cell("no_inject", [1] * 30 + [0] * 70)]
    for seed in seeds:
        cells.append(cell("replace", [int(right) for right in draw.random(100) < 0.5], seed))
    (found,) = compare(results(*cells), metrics=[METRIC], settings=QUICK).differences
    return found


def continuous(deltas: np.ndarray) -> Difference:
    table = results(
        measured("no_inject", "gold_logprob", [0.0] * len(deltas)),
        measured("replace", "gold_logprob", deltas.tolist(), 42),
    )
    (found,) = compare(table, metrics=["gold_logprob"], settings=QUICK).differences
    return found


def test_from_three_seeds_on_there_is_an_interval_over_seeds() -> None:
    found = of_seeds(SEED_NAMES[:3])
    assert found.interval is not None
    assert found.interval_over_seeds is not None
    assert found.no_interval_over_seeds_because is None
    assert found.interval.scope == "other rows with these seeds"
    assert found.interval_over_seeds.scope == "other rows and other seeds"
    assert found.interval_over_seeds.low <= found.interval.low
    assert found.interval_over_seeds.high >= found.interval.high
    assert found.interval_over_seeds.level == found.interval.level


@pytest.mark.parametrize(
    ("seeds", "reason"),
    [
        ([None], "nothing in it is seeded"),
        ([42], "one seed does not show how seeds differ; 3 are needed"),
        ([42, 123], "2 seeds do not show how seeds differ; 3 are needed"),
    ],
)
def test_with_fewer_seeds_there_is_a_reason_instead(seeds: list[int | None], reason: str) -> None:
    found = of_seeds(seeds)
    assert found.interval_over_seeds is None
    assert found.no_interval_over_seeds_because == reason


def test_the_interval_over_seeds_is_that_of_the_sample() -> None:
    sample = seeded_accuracy_study(100, 3, 0.1).draw(np.random.default_rng(2))
    table = sample.results(METRIC)
    (found,) = compare(table, metrics=[METRIC], settings=QUICK).differences
    assert found.delta == pytest.approx(sample.deltas.mean())
    assert found.interval_over_seeds is not None
    assert not found.interval_over_seeds.excludes(found.delta)


@pytest.mark.parametrize("seed", range(6))
def test_of_a_metric_without_bounds_all_is_of_the_median_row(seed: int) -> None:
    deltas = np.random.default_rng(seed).lognormal(0.0, 1.0, 80) - 1.3
    found = continuous(deltas)
    assert (found.centre, found.delta) == ("median", pytest.approx(np.median(deltas)))
    assert found.mean - found.baseline_mean == pytest.approx(deltas.mean())
    assert found.standard_error is None
    assert found.interval is not None
    assert found.interval.low <= found.delta <= found.interval.high
    assert found.p == pytest.approx(binomtest(int((deltas > 0).sum()), 80).pvalue)
    # The test is exact and the interval is about at its level, so it may exclude 0 a little sooner.
    assert found.interval.excludes(0) or found.p > 0.05
    reason = found.no_interval_over_seeds_because
    assert reason == "one seed does not show how seeds differ; 3 are needed"


def test_a_few_rows_far_away_change_nothing() -> None:
    deltas = np.random.default_rng(3).normal(0.5, 0.5, 200)
    near, far = continuous(deltas), continuous(np.where(deltas > 1.5, deltas + 1000, deltas))
    assert (near.delta, near.interval, near.p) == (far.delta, far.interval, far.p)


def test_a_median_that_most_rows_share_has_no_interval() -> None:
    deltas = np.zeros(100)
    deltas[:30] = np.linspace(3.0, 5.0, 30)
    found = continuous(deltas)
    assert found.interval is None
    assert any("give no interval of the median" in line for line in found.warnings)
    # More rows improve than get worse, which the counts beside it show.
    assert (found.delta, found.counts.gained, found.verdict) == (0.0, 30, "better")
    assert found.is_better


@pytest.mark.parametrize(("small", "verdict"), [(89, "worse"), (90, None)])
def test_rows_that_hardly_change_have_no_verdict(small: int, verdict: str | None) -> None:
    found = continuous(np.array([-0.001 - i / 1e6 for i in range(small)] + [-2.0] * (100 - small)))
    assert found.p is not None
    assert found.p < 1e-9
    assert found.verdict == verdict
    if verdict is None:
        assert found.no_verdict_because == "90 % of the rows change by less than 0.1"


def test_a_share_from_0_to_1_has_the_interval_of_its_mean() -> None:
    draw = np.random.default_rng(4)
    texts = [" ".join(["gold"] + ["other"] * int(k)) for k in draw.integers(0, 6, 60)]
    table = results(cell("no_inject", [0] * 60), cell("replace", [0] * 60, 42))
    table.cells[1].lanes = [
        replace(lane, prediction=text)
        for lane, text in zip(table.cells[1].lanes, texts, strict=True)
    ]
    (found,) = compare(table, metrics=["squad_f1"], settings=QUICK).differences
    assert (found.centre, found.p_method) == ("mean", "mover_exact")
    assert found.interval is not None
    assert found.interval.method == "mover_mid_p"
    assert 0 < found.interval.low < found.delta < found.interval.high < 1
    assert found.verdict == "better"


def test_a_comparison_written_before_the_new_fields_is_read() -> None:
    table = results(cell("no_inject", [1, 0, 1]), cell("replace", [0, 0, 1], 42))
    written = json.loads(compare(table, metrics=[METRIC], settings=QUICK).model_dump_json())
    for difference in written["differences"]:
        del difference["interval_over_seeds"]
        del difference["no_interval_over_seeds_because"]
        del difference["interval"]["holds_for"]
    read = Comparison.model_validate_json(json.dumps(written))
    assert read.differences[0].interval is not None
    assert read.differences[0].interval.holds_for == "rows"
