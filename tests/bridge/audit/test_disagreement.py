from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statebridge.audit import LABELS, AuditReport, audit, disagreement_label
from statebridge.errors import ResultError
from statebridge.experiment.conditions import Condition
from statebridge.papers.linear_translation.result_reader import read_published
from statebridge.records import ResultSet
from statebridge.scoring import legacy_contains, normalized_exact_match, word_boundary_contains
from tests.bridge.audit.disagreeing_cells import TEXTS, cell, results
from tests.shared_data import SHARED, needs_shared


@pytest.mark.parametrize(
    ("prediction", "gold", "label"),
    [
        (TEXTS["V"], "Paris", "verbose_correct"),
        (TEXTS["S"], "Paris", "substring_noise"),
        (TEXTS["A"], "Paris", "accidental_mention"),
        ("The answer is Paris. Yes", "Paris", "verbose_correct"),
        ("paris\nor Lyon", "Paris", "verbose_correct"),
        ("Lyon. Paris", "Paris", "accidental_mention"),
        ("sub-Paris-like", "Paris", "substring_noise"),  # without punctuation it is one word
    ],
)
def test_the_three_labels(prediction: str, gold: str, label: str) -> None:
    assert disagreement_label(prediction, gold) == label


@given(st.text(max_size=30), st.text(min_size=1, max_size=5))
def test_labels_follow_from_the_metrics(text: str, gold: str) -> None:
    label = disagreement_label(text, gold)
    assert label in LABELS
    if label == "substring_noise":
        assert not word_boundary_contains(text, gold)
    if label == "accidental_mention":
        assert word_boundary_contains(text, gold)


def test_only_disagreements_are_listed() -> None:
    report = audit(results([cell("no_inject", "VESWA0")]))
    assert [(row.row_id, row.label) for row in report.rows] == [
        ("r00", "verbose_correct"),
        ("r02", "substring_noise"),
        ("r04", "accidental_mention"),
    ]
    (one,) = report.cells
    assert (one.rows, one.null_predictions) == (6, 1)
    assert sum(one.disagreements.values()) == 3


def test_at_most_five_of_each_cell_and_all_counted() -> None:
    report = audit(results([cell("replace", "A" * 7, 42), cell("replace", "SSS", 123)]))
    assert report.counts == {
        "verbose_correct": 0,
        "substring_noise": 3,
        "accidental_mention": 5,
    }
    assert [one.disagreements["accidental_mention"] for one in report.cells] == [0, 7]
    assert len(audit(results([cell("replace", "A" * 7, 42)]), per_cell=None).rows) == 7
    assert len(audit(results([cell("replace", "A" * 7, 42)]), per_cell=1).rows) == 1


def test_controls_are_left_out_and_named() -> None:
    controls = [
        cell("b_to_b_self_inject", "A"),
        cell("same_norm_random", "A", 1),
        cell("shuffled_translation", "A", 1),
        cell("shuffled_translation_strict_matched", "A", 1),
        cell("zero_replacement", "A"),
        replace(cell("mine", "A", 1), condition=Condition(name="mine", source="random")),
    ]
    main = ["no_inject", "nl_relay", "additive", "replace", "scale_corrected", "best_alpha"]
    main_cells = [cell(name, "A") for name in main]
    sent = replace(cell("sent", "A", 1), condition=Condition(name="sent", source="sender"))
    report = audit(results([*controls, *main_cells, sent]))
    assert {one.condition for one in report.cells} == {*main, "sent"}
    assert set(report.controls_left_out) == {one.condition.name for one in controls}
    asked = audit(results([*controls, *main_cells]), conditions=["zero_replacement"])
    assert [one.condition for one in asked.cells] == ["zero_replacement"]


def test_conditions_without_a_disagreement_are_counted_as_zero() -> None:
    report = audit(results([cell("no_inject", "WE")]))
    assert report.rows == ()
    assert report.counts_by_condition == {"no_inject": dict.fromkeys(LABELS, 0)}


def test_the_order_of_cells_and_rows_changes_nothing() -> None:
    given = [cell("no_inject", "VSA" * 4), cell("replace", "SSA", 42), cell("replace", "AVV", 123)]
    wanted = audit(results(given))
    shuffle = random.Random(1).shuffle
    mixed = [replace(one, lanes=list(one.lanes)) for one in given]
    shuffle(mixed)
    for one in mixed:
        shuffle(one.lanes)
    assert audit(results(mixed)) == wanted


def test_context_and_question_come_from_the_dataset() -> None:
    (row,) = audit(results([cell("no_inject", "V")], dataset=True)).rows
    assert (row.context, row.question) == ("context of r00", "question of r00?")
    (row,) = audit(results([cell("no_inject", "V")])).rows
    assert (row.context, row.question) == (None, None)


def test_a_report_is_json() -> None:
    report = audit(results([cell("no_inject", "VSA")]))
    text = report.model_dump_json()
    assert '"counts":{"verbose_correct":1,"substring_noise":1,"accidental_mention":1}' in text
    assert '"no_inject"' in text


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        ([], {}, "nothing to audit"),
        ([cell("zero_replacement", "A")], {}, "controls: zero_replacement"),
        ([cell("replace", "A")], {"conditions": ["replcae"]}, "did you mean replace"),
        ([cell("replace", "A")], {"conditions": []}, "nothing to audit"),
        ([cell("replace", "A")], {"per_cell": 0}, "at least 1"),
        ([cell("replace", "")], {}, "has no row"),
    ],
)
def test_bad_input_is_refused_in_one_line(
    given: list[Any], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ResultError) as caught:
        audit(results(given), **options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_empty_gold_answer_is_refused() -> None:
    one = cell("replace", "A")
    one.lanes[0] = replace(one.lanes[0], gold=" ")
    with pytest.raises(ResultError, match="empty gold"):
        audit(results([one]))


@pytest.fixture(scope="module")
def published() -> ResultSet:
    return read_published(SHARED / "published")


@pytest.fixture(scope="module")
def report(published: ResultSet) -> AuditReport:
    return audit(published)


@needs_shared
def test_published_counts_of_the_files_at_hand(report: AuditReport) -> None:
    # 65 rows are published over 14 main files; the six at hand lack scale_corrected (14 rows,
    # from its published mean and deviation) and best_alpha (15): 36 are left.
    assert len(report.rows) == 36
    relay = report.counts_by_condition["nl_relay"]
    assert relay == {"verbose_correct": 5, "substring_noise": 0, "accidental_mention": 0}
    assert report.counts["verbose_correct"] == 5  # all of the published ones, all from the relay
    assert report.counts["substring_noise"] <= 31
    assert report.counts["accidental_mention"] <= 29


@needs_shared
@pytest.mark.parametrize(
    ("condition", "seed", "row_id", "label"),
    [
        # From the published spot check of ten rows: those of the files at hand.
        ("nl_relay", None, "mh_clean_000007", "verbose_correct"),
        ("nl_relay", None, "mh_clean_000011", "verbose_correct"),
        ("nl_relay", None, "mh_clean_000022", "verbose_correct"),
        ("additive", 123, "mh_clean_000015", "substring_noise"),
        ("additive", 42, "mh_clean_000026", "substring_noise"),
        ("replace", 456, "mh_clean_000232", "substring_noise"),
        ("no_inject", None, "mh_clean_000000", "accidental_mention"),
        ("replace", 123, "mh_clean_000015", "accidental_mention"),
    ],
)
def test_published_rows(
    report: AuditReport, condition: str, seed: int | None, row_id: str, label: str
) -> None:
    found = [
        row.label
        for row in report.rows
        if (row.condition, row.seed, row.row_id) == (condition, seed, row_id)
    ]
    assert found == [label]


@needs_shared
def test_every_lenient_hit_of_the_published_files_is_counted(
    published: ResultSet, report: AuditReport
) -> None:
    for one in report.cells:
        source = published.cell(one.condition, one.seed)
        assert source is not None
        hits = sum(
            legacy_contains(row.prediction or "", row.gold)
            and not normalized_exact_match(row.prediction or "", row.gold)
            for row in source.lanes
        )
        assert sum(one.disagreements.values()) == hits
