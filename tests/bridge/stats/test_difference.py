from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pytest

from statebridge.stats import Comparison, Difference, Settings, compare
from tests.bridge.stats.simulated import SEED_NAMES, seeded_accuracy_study
from tests.bridge.stats.tables import METRIC, cell, measured, results

QUICK = Settings(resamples=500, stratify_by=())


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
def test_p_and_interval_of_a_continuous_metric_agree(seed: int) -> None:
    found = continuous(np.random.default_rng(seed).lognormal(0.0, 1.0, 80) - 1.3)
    assert found.interval is not None
    assert found.p is not None
    assert (found.p <= 0.05) == found.interval.excludes(0)


def test_few_rows_that_carry_a_mean_are_said() -> None:
    deltas = np.random.default_rng(3).normal(0.0, 0.5, 200)
    assert not any("variance of the mean" in line for line in continuous(deltas).warnings)
    deltas[:6] += 10.0
    assert any(
        "4 of 200 rows make up half of the variance" in line
        for line in (continuous(deltas).warnings)
    )


def test_so_few_rows_that_differ_give_no_interval_and_say_so() -> None:
    deltas = np.zeros(100)
    deltas[:2] = [3.0, 5.0]
    found = continuous(deltas)
    assert found.interval is None
    assert found.p is not None
    assert found.p > 0.05
    assert any("so few of 100 rows differ" in line for line in found.warnings)


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
