from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from statebridge.errors import ResultError
from statebridge.papers.linear_translation.bootstrap import stable_seed
from statebridge.records import CellResult, DatasetRow, ResultSet
from statebridge.stats import Comparison, Difference, SeedDifference, Settings, compare
from statebridge.stats.inference.detectable import detectable_share
from statebridge.stats.inference.hypothesis_tests import holm
from tests.bridge.stats.tables import METRIC, SEEDS, cell, measured, numbered, results

QUICK = Settings(permutations=99)
ROWS = 60


def outcomes(key: int, share: float = 0.3) -> list[int]:
    return [int(x) for x in np.random.default_rng(key).random(ROWS) < share]


def study(*more: CellResult) -> ResultSet:
    cells = [cell("no_inject", outcomes(0)), cell("nl_relay", outcomes(1))]
    for number, condition in enumerate(("replace", "scale_corrected", "additive")):
        cells += [
            cell(condition, outcomes(10 * number + seed, 0.1 + 0.1 * number), seed)
            for seed in SEEDS
        ]
    hops = numbered([2, 3, 4] * (ROWS // 3))
    dataset = {i: DatasetRow(i, "", "?", "gold", {"hops": hop}) for i, hop in hops.items()}
    return results(*cells, *more, dataset=dataset)


def lone(found: Comparison) -> Difference:
    (difference,) = found.differences
    return difference


def without_family(difference: Difference) -> dict[str, Any]:
    """A difference without what depends on the family of conditions by definition."""
    corrected = {"p_holm", "verdict", "family", "effect", "equivalence"}
    return difference.model_dump(exclude=corrected)


def test_counts_and_means() -> None:
    found = lone(
        compare(
            results(
                cell("no_inject", [1, 1, 0, 0, 0]),
                cell("replace", [1, 0, 1, 1, 0], 42),
                cell("replace", [0, 0, 1, 0, 0], 123),
            ),
            metrics=[METRIC],
            settings=QUICK,
        )
    )
    assert (found.runs, found.n_rows, found.n_pooled) == (2, 5, 10)
    assert found.mean == pytest.approx(0.4)
    assert found.baseline_mean == pytest.approx(0.4)
    assert found.delta == pytest.approx(0.0)
    counts = found.counts.model_dump()
    assert counts == {"gained": 3, "lost": 3, "tied": 4, "tied_correct": 1, "tied_wrong": 3}
    assert [seed.delta for seed in found.by_seed] == pytest.approx([-0.2, 0.2])
    assert not found.same_sign_in_every_seed
    assert [seed.p_method for seed in found.by_seed] == ["exact_mcnemar"] * 2
    assert found.p_method == "exact_mcnemar_over_seeds"


def test_continuous_metrics_are_offered_where_measured() -> None:
    base = np.random.default_rng(1).normal(size=30)
    table = results(
        measured("no_inject", "gold_logprob", base.tolist()),
        measured("replace", "gold_logprob", (base - 1 + 0.1 * base**2).tolist(), 42),
    )
    found = compare(table, settings=QUICK)
    assert found.metrics == ("gold_logprob",)
    difference = lone(found)
    assert difference.p_method == "exact_sign_test"
    assert difference.counts.tied_correct is None
    assert difference.equivalence is None
    assert difference.verdict == "worse"
    wide = Settings(continuous_margins={"gold_logprob": (2.0,)})
    declared = lone(compare(table, settings=wide))
    assert declared.no_verdict_because == "100 % of the rows change by less than 2"


def test_the_primary_metric_of_the_task_comes_first() -> None:
    table = study()
    for one in table.cells:
        one.lanes = [replace(lane, task_correct=True) for lane in one.lanes]
    assert compare(table, settings=QUICK).metrics[0] == "task_correct"
    # Some rows name no convention, so that it judges the task no more.
    for one in table.cells:
        one.lanes[0] = replace(one.lanes[0], task_correct=None)
    found = compare(table, settings=QUICK).metrics
    assert (found[0], "task_correct" in found) == (METRIC, True)
    published = compare(table, settings=QUICK, mode="published").metrics
    assert published[0] == METRIC


def test_divergence_is_not_offered_unless_measured() -> None:
    assert "kl_from_no_inject" not in compare(study(), settings=QUICK).metrics
    table = results(
        measured("no_inject", "kl_from_no_inject", [None] * 4),
        measured("replace", "kl_from_no_inject", [0.5, 0.1, 0.2, 0.9], 42),
    )
    assert lone(compare(table, settings=QUICK)).delta == pytest.approx(0.35)


def test_directions_are_kept_apart() -> None:
    table = results(
        cell("no_inject", [1, 0, 1, 0]),
        cell("replace", [0, 0, 0, 0], 42),
        cell("no_inject", [0, 0, 0, 0], direction="rev"),
        cell("replace", [1, 1, 0, 0], 42, direction="rev"),
        cell("additive", [1, 1, 0, 0], 42, direction="rev"),
    )
    found = compare(table, metrics=[METRIC], settings=QUICK)
    forward = found.difference("replace", "no_inject", METRIC, "fwd")
    reverse = found.difference("replace", "no_inject", METRIC, "rev")
    assert forward is not None
    assert reverse is not None
    assert (forward.delta, reverse.delta) == (-0.5, 0.5)
    assert found.difference("additive", "no_inject", METRIC, "fwd") is None
    alone = compare(
        results(*(one for one in table.cells if one.direction == "fwd")),
        metrics=[METRIC],
        settings=QUICK,
    )
    assert without_family(forward) == without_family(lone(alone))


def test_a_direction_without_the_baseline_is_said() -> None:
    table = study(cell("replace", outcomes(5), 42, direction="rev"))
    found = compare(table, settings=QUICK)
    assert "rev: has no no_inject; nothing is compared with it there" in found.warnings


def test_several_baselines_and_any_named_one() -> None:
    found = compare(study(), ("no_inject", "nl_relay", "no_inject"), settings=QUICK)
    assert found.baselines == ("no_inject", "nl_relay")
    assert found.difference("nl_relay", "no_inject", METRIC) is not None
    assert found.difference("no_inject", "nl_relay", METRIC) is not None
    seeded = compare(study(), "replace", settings=QUICK)
    paired = seeded.difference("additive", "replace", METRIC)
    assert paired is not None
    assert paired.seeds == (123, 42, 456)


def test_holm_is_over_the_conditions_of_one_baseline_and_metric() -> None:
    names = ("no_inject", "nl_relay")
    metrics = (METRIC, "normalized_exact_match")
    found = compare(study(), names, metrics=metrics, settings=QUICK)
    for baseline in names:
        for metric in metrics:
            family = [d for d in found.differences if (d.baseline, d.metric) == (baseline, metric)]
            p_values = [d.p for d in family if d.p is not None]
            assert len(p_values) == 4
            assert [d.p_holm for d in family] == holm(p_values)


def test_verdicts() -> None:
    base = [1] * 200 + [0] * 200
    found = compare(
        results(
            cell("no_inject", base),
            cell("worse", [0] * 400),
            cell("better", [1] * 400),
            cell("same", base),
            cell("noisy", [1, 0] * 200),
        ),
        metrics=[METRIC],
        settings=QUICK,
    )
    assert {d.condition: d.verdict for d in found.differences} == {
        "worse": "worse",
        "better": "better",
        "same": "equivalent",
        "noisy": "inconclusive",
    }


def test_what_the_data_cannot_give_is_none_and_said() -> None:
    one_row = lone(compare(results(cell("no_inject", [1]), cell("replace", [0])), metrics=[METRIC]))
    assert (one_row.interval, one_row.standard_error, one_row.equivalence) == (None, None, None)
    assert one_row.effect is not None
    assert one_row.effect.minimal_detectable is None
    assert "one row gives no interval" in one_row.warnings[0]

    same = lone(
        compare(results(cell("no_inject", [1, 0, 1]), cell("replace", [1, 0, 1])), metrics=[METRIC])
    )
    assert "fewer than 15 rows leave the commonest difference" in same.warnings[0]
    assert same.interval is not None
    assert same.interval.low < 0 < same.interval.high
    assert same.effect is not None
    assert same.effect.cohens_dz is None
    assert same.effect.minimal_detectable is None  # three rows can show nothing at 0.05
    assert detectable_share(np.zeros(3), 1) is None

    sparse = lone(
        compare(
            results(cell("no_inject", [1] * 50), cell("replace", [0, 0] + [1] * 48)),
            metrics=[METRIC],
        )
    )
    assert "fewer than 15 rows leave the commonest difference" in sparse.warnings[0]

    flat = lone(
        compare(
            results(
                measured("no_inject", "gold_logprob", [0.0] * 3),
                measured("replace", "gold_logprob", [1.0] * 3),
            )
        )
    )
    assert (flat.interval, flat.p, flat.p_holm, flat.verdict) == (None, None, None, None)
    assert flat.no_verdict_because == "the difference is the same in every row"


def test_a_condition_without_a_value_is_said() -> None:
    undecoded = cell("probe", [None] * ROWS)
    found = compare(study(undecoded), metrics=[METRIC], settings=QUICK)
    assert found.difference("probe", "no_inject", METRIC) is None
    assert f"probe (fwd): no row has a value of {METRIC}" in found.warnings


def test_pairing_warnings_reach_the_comparison_once() -> None:
    table = study()
    table.cells[0].complete = False
    found = compare(table, settings=QUICK)
    assert found.warnings.count("no_inject (fwd): the run is not complete") == 1


def test_bad_requests_are_refused() -> None:
    with pytest.raises(ResultError, match="unknown metric 'legacy_contain'; did you mean legacy_c"):
        compare(study(), metrics=["legacy_contain"])
    with pytest.raises(ResultError, match="no result is of the baseline 'no_injct'; did you mean"):
        compare(study(), "no_injct")
    with pytest.raises(ResultError, match="there is nothing to compare with no_inject"):
        compare(results(cell("no_inject", [1, 0])))
    with pytest.raises(ResultError, match="no result is of the baseline"):
        compare(results())


def test_published_mode_leaves_out_what_was_not_published() -> None:
    found = compare(study(), mode="published")
    assert found.stratifications == ()
    assert found.failure_chains == ()
    for difference in found.differences:
        assert difference.p_holm is None
        assert difference.effect is None
        assert difference.verdict is None
        assert difference.interval is not None
        assert difference.interval.method == "pooled_percentile_bootstrap"
    additive = found.difference("additive", "no_inject", METRIC)
    relay = found.difference("nl_relay", "no_inject", METRIC)
    assert additive is not None
    assert relay is not None
    assert additive.p == min(seed.p for seed in additive.by_seed if seed.p is not None)
    assert additive.p_method == "mcnemar_continuity_corrected_min_over_seeds"
    assert relay.p_method == "mcnemar_continuity_corrected"


def test_published_mode_draws_from_the_published_streams() -> None:
    # Continuous values: with few rows of 0 and 1 every stream gives the same quantiles.
    def values(key: int) -> list[float]:
        return [float(value) for value in np.random.default_rng(key).normal(size=12)]

    found = compare(
        results(
            measured("no_inject", "gold_logprob", values(0)),
            measured("zero_replacement", "gold_logprob", values(1)),
            *(measured("replace", "gold_logprob", values(seed), seed) for seed in SEEDS),
        ),
        metrics=["gold_logprob"],
        mode="published",
    )

    def deltas(key: int) -> list[float]:
        return [value - base for value, base in zip(values(key), values(0), strict=True)]

    def plain(of: list[float], *names: object) -> object:
        rng = random.Random(stable_seed(*names, "no_inject", "gold_logprob"))
        n = len(of)
        means = sorted(sum(of[rng.randrange(n)] for _ in range(n)) / n for _ in range(5000))
        return pytest.approx((means[124], means[4874]), abs=1e-13)  # rounding of 36 additions

    def bounds(one: Difference | SeedDifference) -> tuple[float, float]:
        assert one.interval is not None
        return one.interval.low, one.interval.high

    replaced = found.difference("replace", "no_inject", "gold_logprob")
    zero = found.difference("zero_replacement", "no_inject", "gold_logprob")
    assert replaced is not None
    assert zero is not None
    order = (123, 42, 456)
    for one, seed in zip(replaced.by_seed, order, strict=True):
        assert bounds(one) == plain(deltas(seed), "replace", seed)
    pooled = [delta for seed in order for delta in deltas(seed)]
    assert bounds(replaced) == plain(pooled, "pooled", "replace")
    assert bounds(zero.by_seed[0]) == plain(deltas(1), "zero_replacement", None)
    assert bounds(zero) == plain(deltas(1), "pooled", "zero_replacement")


def test_published_mode_pools_runs_over_their_own_rows() -> None:
    table = results(
        cell("no_inject", [1, 0, 1, 0]),
        cell("replace", [0, 0, 1, 0], 42),
        cell("replace", [0, 1, 0, None], 123),
    )
    found = lone(compare(table, metrics=[METRIC], mode="published"))
    assert found.n_pooled == 7
    assert found.delta == pytest.approx(-2 / 7)
    assert found.n_rows == 3


@pytest.mark.slow
def test_a_comparison_survives_json() -> None:
    for mode in ("clustered", "published"):
        found = compare(study(), ("no_inject", "nl_relay"), mode=mode, settings=QUICK)
        assert Comparison.model_validate_json(found.model_dump_json()) == found
    assert len(compare(study(), settings=QUICK).failure_chains) == 3


def shuffled(table: ResultSet, key: int) -> ResultSet:
    draw = np.random.default_rng(key)
    cells = []
    for index in draw.permutation(len(table.cells)):
        one = table.cells[index]
        order = draw.permutation(len(one.lanes))
        cells.append(replace(one, lanes=[one.lanes[i] for i in order]))
    row_ids = list(table.dataset)
    dataset = {row_ids[i]: table.dataset[row_ids[i]] for i in draw.permutation(len(row_ids))}
    return ResultSet(cells, dataset)


@pytest.mark.slow
@settings(deadline=None, max_examples=8)
@given(st.integers(0, 2**32 - 1))
def test_order_of_cells_and_rows_never_matters(key: int) -> None:
    expected = compare(study(), ("no_inject", "nl_relay"), metrics=[METRIC], settings=QUICK)
    found = compare(
        shuffled(study(), key), ("no_inject", "nl_relay"), metrics=[METRIC], settings=QUICK
    )
    assert found == expected


@pytest.mark.slow
@settings(deadline=None, max_examples=8)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["new", "additive"]), st.integers(500, 999))
def test_adding_a_cell_never_changes_another(key: int, condition: str, seed: int) -> None:
    before = compare(study(), metrics=[METRIC], settings=QUICK)
    after = compare(study(cell(condition, outcomes(key), seed)), metrics=[METRIC], settings=QUICK)
    for difference in before.differences:
        now = after.difference(difference.condition, difference.baseline, METRIC)
        assert now is not None
        if difference.condition != condition:
            assert without_family(now) == without_family(difference)
        else:  # its other seeds stay what they were
            kept = [one for one in now.by_seed if one.seed != seed]
            assert kept == list(difference.by_seed)
    of_others = [
        [
            s.model_dump(exclude={"interaction_p_holm"})
            for s in found.stratifications
            if s.condition not in (condition, "new")
        ]
        for found in (before, after)
    ]
    assert of_others[0] == of_others[1]
    assert after.failure_chains == before.failure_chains
