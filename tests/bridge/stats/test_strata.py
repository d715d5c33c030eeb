from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from statsmodels.stats.oneway import anova_oneway

from statebridge.errors import ResultError
from statebridge.records import CellResult, DatasetRow
from statebridge.stats import Settings, compare
from statebridge.stats.comparison import PROMPT_LENGTH
from statebridge.stats.inference.intervals import Floats
from statebridge.stats.strata import FEWEST, InteractionTest, ordered_labels, stratum_labels
from tests.bridge.stats.tables import METRIC, cell, measured, numbered, results


def dataset(**attributes: list[str | int | None]) -> dict[str, DatasetRow]:
    rows: dict[str, DatasetRow] = {}
    for name, values in attributes.items():
        for row_id, value in numbered(values).items():
            held = dict(rows[row_id].attributes) if row_id in rows else {}
            rows[row_id] = DatasetRow(row_id, "", "?", "gold", held | {name: value})
    return rows


def with_lengths(base: CellResult, lengths: list[int | None]) -> CellResult:
    base.lanes = [
        replace(row, prompt_len_receiver=length)
        for row, length in zip(base.lanes, lengths, strict=True)
    ]
    return base


def test_labels_come_from_the_dataset_rows() -> None:
    rows = dataset(hops=[2, 3, None], domain_inferred=["geography", "history", "history"])
    assert stratum_labels("hops", rows, []) == {"row0000": "2", "row0001": "3"}
    assert stratum_labels("domain", rows, [])["row0002"] == "history"
    assert stratum_labels("answer_type", rows, []) == {}


def test_prompt_lengths_are_binned_at_their_quartiles() -> None:
    base = with_lengths(cell("no_inject", [1] * 8), [30, 31, 32, 40, 41, 42, 60, 89])
    labels = stratum_labels(PROMPT_LENGTH, {}, [base])
    assert list(labels.values()) == ["≤31", "≤31"] + ["32–40"] * 2 + ["41–42"] * 2 + [">42"] * 2
    assert ordered_labels(labels.values()) == ["≤31", "32–40", "41–42", ">42"]


def test_equal_prompt_lengths_make_one_bin() -> None:
    base = with_lengths(cell("no_inject", [1] * 4), [45] * 4)
    assert set(stratum_labels(PROMPT_LENGTH, {}, [base]).values()) == {"≤45"}


def test_relay_prompts_do_not_set_the_length() -> None:
    relay = with_lengths(cell("a_relay", [1, 1]), [145, 150])
    relay.lanes = [replace(row, relay="facts") for row in relay.lanes]
    base = with_lengths(cell("no_inject", [1, 1]), [40, 50])
    assert set(stratum_labels(PROMPT_LENGTH, {}, [relay, base]).values()) == {"≤40", ">40"}
    assert stratum_labels(PROMPT_LENGTH, {}, [relay]) == {}


def test_labels_are_ordered_by_number() -> None:
    assert ordered_labels(["10", "9", "2"]) == ["2", "9", "10"]
    assert ordered_labels([">100", "≤9", "10–100"]) == ["≤9", "10–100", ">100"]
    assert ordered_labels(["phrase", "entity"]) == ["entity", "phrase"]


def groups(shift: float) -> tuple[list[str], list[str], Floats]:
    draw = np.random.default_rng(8)
    labels = [str(label) for label in draw.integers(0, 3, size=150)]
    deltas = draw.normal(size=150) + shift * np.array([label == "1" for label in labels])
    return [f"row{index:03}" for index in range(150)], labels, deltas


def p_of(
    row_ids: list[str],
    labels: list[str],
    deltas: Floats,
    permutations: int = 99,
) -> tuple[float | None, str | None]:
    test = InteractionTest(permutations)
    return test.p_value("hops", row_ids, labels, deltas)


@pytest.mark.parametrize("shift", [0.0, 0.4, 0.7])
def test_interaction_agrees_with_analysis_of_variance(shift: float) -> None:
    row_ids, labels, deltas = groups(shift)
    mine, _ = p_of(row_ids, labels, deltas, 9999)
    by_label = [deltas[np.array(labels) == label] for label in ("0", "1", "2")]
    theirs = anova_oneway(by_label, use_var="unequal", welch_correction=True).pvalue
    # The larger of Welch's p and of one with an error of at most 0.02 (four standard errors).
    assert theirs <= mine <= theirs + 0.02


def test_interaction_with_a_far_stratum_is_as_small_as_it_can_be() -> None:
    row_ids, labels, deltas = groups(9.0)
    assert p_of(row_ids, labels, deltas, 999) == (0.001, None)


def test_no_interaction_without_variance_or_in_one_stratum() -> None:
    rows = 3 * FEWEST
    ids = [f"r{index:02}" for index in range(rows)]
    assert p_of(ids, list("abc" * FEWEST), np.zeros(rows)) == (1.0, None)
    assert p_of(ids, ["a"] * rows, np.arange(float(rows))) == (None, "there is one stratum")


def test_strata_of_few_rows_have_no_part_in_the_interaction() -> None:
    draw = np.random.default_rng(4)
    labels = ["a"] * 40 + ["b"] * 40
    ids = [f"r{index:03}" for index in range(80)]
    deltas = draw.normal(size=80)
    few = FEWEST - 1
    more = p_of(
        [*ids, *(f"z{index:02}" for index in range(few))],
        [*labels, *["c"] * few],
        np.concatenate([deltas, np.full(few, 50.0)]),
    )
    assert more == p_of(ids, labels, deltas)
    assert p_of(ids[: 40 + few], labels[: 40 + few], deltas[: 40 + few]) == (
        None,
        f"fewer than two strata hold {FEWEST} rows",
    )


def test_a_metric_without_bounds_has_strata_and_no_interaction() -> None:
    draw = np.random.default_rng(4)
    base, moved = draw.normal(size=(2, 60))
    found = compare(
        results(
            measured("no_inject", "gold_logprob", base.tolist()),
            measured("replace", "gold_logprob", (base + moved).tolist(), 42),
            dataset=dataset(hops=[2, 3] * 30),
        ),
        settings=Settings(stratify_by=("hops",)),
    )
    (one,) = found.stratifications
    assert one.interaction_p is None
    assert one.no_interaction_because == "no test holds for gold_logprob, which has no bounds"
    assert [s.delta for s in one.strata] == pytest.approx(
        [np.median(moved[::2]), np.median(moved[1::2])]
    )
    assert all(s.interval is not None for s in one.strata)


@pytest.mark.parametrize("shift", [0.0, 0.5, 0.9])
def test_interaction_of_unequal_variances_agrees_with_welch(shift: float) -> None:
    draw = np.random.default_rng(9)
    sizes, spreads = (120, 60, 40), (1.0, 2.0, 3.0)
    parts = [
        draw.normal(shift * (i == 0), sd, n)
        for i, (n, sd) in enumerate(zip(sizes, spreads, strict=True))
    ]
    labels = [str(i) for i, n in enumerate(sizes) for _ in range(n)]
    ids = [f"row{index:03}" for index in range(sum(sizes))]
    mine, _ = p_of(ids, labels, np.concatenate(parts), 1999)
    theirs = anova_oneway(parts, use_var="unequal", welch_correction=True).pvalue
    assert theirs <= mine <= theirs + 0.05  # four standard errors of 1,999 draws are 0.045


def test_a_comparison_shows_strata_and_interaction() -> None:
    hops = [2] * 40 + [3] * 40
    baseline = cell("no_inject", [1] * 80)
    losing = cell("replace", [0] * 30 + [1] * 50, 42)
    same = cell("additive", [0, 1] * 10 + [1] * 20 + [0, 1] * 10 + [1] * 20, 42)
    found = compare(
        results(baseline, losing, same, dataset=dataset(hops=[*hops])),
        settings=Settings(stratify_by=("hops",)),
    )
    by_condition = {one.condition: one for one in found.stratifications if one.metric == METRIC}
    replaced = by_condition["replace"]
    assert [(s.label, s.n_rows, s.delta) for s in replaced.strata] == [
        ("2", 40, -0.75),
        ("3", 40, 0.0),
    ]
    assert replaced.strata[0].baseline_mean == 1.0
    assert replaced.strata[0].mean == 0.25
    assert replaced.interaction_p == 1 / 2000
    assert replaced.interaction_p_holm == 2 / 2000
    added = by_condition["additive"]
    assert added.interaction_p == 1.0
    assert added.interaction_p_holm == 1.0


def test_an_attribute_that_no_row_has_is_refused() -> None:
    held = results(cell("no_inject", [1, 0]), cell("replace", [0, 0]), dataset=dataset(hops=[2, 3]))
    with pytest.raises(ResultError, match=r"^by hop: no row has it; did you mean hops"):
        compare(held, settings=Settings(stratify_by=("hop",)))
    # What is asked for by default is not the user's mistake.
    found = compare(held, settings=Settings())
    assert "not stratified by domain: the results hold no dataset rows with it" in found.warnings


def test_rows_without_the_attribute_are_counted() -> None:
    rows = dataset(hops=[2, 2, 3, None])
    found = compare(
        results(cell("no_inject", [1, 0, 1, 1]), cell("replace", [0, 0, 1, 0]), dataset=rows),
        metrics=[METRIC],
        settings=Settings(stratify_by=("hops",)),
    )
    (one,) = found.stratifications
    assert one.unlabelled_rows == 1
    assert sum(stratum.n_rows for stratum in one.strata) == 3


def test_rows_that_a_map_has_seen_are_strata_of_its_condition() -> None:
    baseline, channel, other = (
        cell("no_inject", [0] * 40),
        cell("replace", [1] * 20 + [0] * 20, 42),
        cell("additive", [0] * 30 + [1] * 10, 42),
    )
    ids = list(numbered(range(40)))
    channel.row_facts = {
        "answer_seen": dict.fromkeys(ids[:20], "yes") | dict.fromkeys(ids[20:], "no")
    }
    other.row_facts = {"answer_seen": dict.fromkeys(ids, "no")}
    found = compare(results(baseline, channel, other), settings=Settings())
    by_condition = {
        one.condition: [(s.label, s.n_rows, s.delta) for s in one.strata]
        for one in found.stratifications
        if (one.attribute, one.metric) == ("answer_seen", METRIC)
    }
    assert by_condition["replace"] == [("no", 20, 0.0), ("yes", 20, 1.0)]
    assert by_condition["additive"] == [("no", 40, 0.25)]


def test_asking_for_a_split_that_is_not_recorded_says_so() -> None:
    found = compare(
        results(cell("no_inject", [1, 0]), cell("replace", [0, 0])),
        settings=Settings(stratify_by=("answer_seen",)),
    )
    assert (
        "not stratified by answer_seen: the results hold no record of what their maps were "
        "trained on" in found.warnings
    )


def test_a_stratum_of_equal_deltas_is_no_outlier() -> None:
    rows = [f"r{i:03}" for i in range(135)]
    # 115 times 0.1 has no exact mean: its rounding must not be divided by a variance of nothing.
    deltas = np.array([0.1] * 115 + [0.1 + 0.3 * (i % 4) for i in range(20)])
    p, reason = InteractionTest(99).p_value("part", rows, ["a"] * 115 + ["b"] * 20, deltas)
    assert reason is None
    assert p == pytest.approx(0.01)
