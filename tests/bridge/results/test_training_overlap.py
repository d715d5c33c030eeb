"""Which rows are new to the maps of a run: stated in the manifest, read back by condition."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from statebridge.data.training_texts import TrainingTexts
from statebridge.errors import ResultError
from statebridge.experiment.conditions import Condition
from statebridge.experiment.presets import CONDITIONS
from statebridge.records import DatasetRow
from statebridge.results.run_results import read_run
from statebridge.results.training_overlap import (
    FIELD,
    read_overlap,
    row_facts,
    training_overlap,
)
from tests.bridge.results.run_folder import ROWS_OF_DATASET, manifest, write_run

IDS = [row.row_id for row in ROWS_OF_DATASET]
LIMA = TrainingTexts.of([DatasetRow("t", "We met Ann.", "Where is Ann?", "Lima")])
TOKYO = TrainingTexts.of([DatasetRow("u", "", "Who is Zoë?", "東京")])
TEXT = TrainingTexts.of(passages=["It is Bob of Lima."])


def facts(trained: dict[str, list[TrainingTexts | None]], condition: Condition) -> Any:
    overlap = read_overlap({FIELD: training_overlap(ROWS_OF_DATASET, trained)})
    return row_facts(overlap, condition, IDS)


def named(**changes: Any) -> Condition:
    return CONDITIONS["replace"].model_copy(update=changes)


def test_each_condition_has_the_rows_of_its_own_map() -> None:
    trained: dict[str, list[TrainingTexts | None]] = {"first": [LIMA, LIMA], "second": [TOKYO]}
    assert facts(trained, named())["answer_seen"] == {"b": "yes", "a": "no", "c": "no"}
    second = facts(trained, named(translator="second"))
    assert second["answer_seen"] == {"b": "no", "a": "yes", "c": "no"}
    # Of a condition without a map: what no map has seen.
    baseline = facts(trained, CONDITIONS["no_inject"])
    assert baseline["answer_seen"] == {"b": "yes", "a": "yes", "c": "no"}


def test_a_text_labels_no_questions() -> None:
    found = facts({"first": [TEXT]}, named())
    assert found["names_seen"] == {"b": "all", "a": "none"}
    assert found["answer_seen"] == {"b": "yes", "c": "no"}
    assert "template_seen" not in found


def test_seeds_of_one_fit_count_their_rows_once() -> None:
    overlap = read_overlap({FIELD: training_overlap(ROWS_OF_DATASET, {"m": [LIMA, LIMA, TOKYO]})})
    assert overlap is not None
    found = overlap.sets["m"]
    assert found is not None
    assert found.rows == 2


def test_a_card_that_records_nothing_leaves_the_rows_unlabelled() -> None:
    trained: dict[str, list[TrainingTexts | None]] = {"first": [LIMA], "second": [TOKYO, None]}
    assert facts(trained, named())["answer_seen"]["b"] == "yes"
    assert facts(trained, named(translator="second")) == {}
    assert facts(trained, CONDITIONS["no_inject"]) == {}


def test_a_run_reads_its_labels_from_the_manifest(tmp_path: Path) -> None:
    stated = manifest([3, 3, 3], **{FIELD: training_overlap(ROWS_OF_DATASET, {"d": [LIMA]})})
    write_run(tmp_path, [], made=stated)
    cells = read_run(tmp_path).cells
    assert {cell.row_facts["answer_seen"]["b"] for cell in cells} == {"yes"}
    del stated[FIELD]
    write_run(tmp_path, [], made=stated)
    assert {len(cell.row_facts) for cell in read_run(tmp_path).cells} == {0}


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ({"sets": {}, "together": {"rows": 1}}, "training_overlap is damaged"),
        (training_overlap(ROWS_OF_DATASET[:2], {"d": [LIMA]}), "is of 2 rows, but 3 ran"),
    ],
)
def test_a_damaged_record_is_refused(broken: Any, words: str, tmp_path: Path) -> None:
    write_run(tmp_path, [], made=manifest([3, 3, 3], **{FIELD: broken}))
    with pytest.raises(ResultError, match=words):
        read_run(tmp_path)
