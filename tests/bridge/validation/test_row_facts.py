from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from statebridge.experiment.conditions import Condition
from statebridge.records import ResultSet
from statebridge.validation import Check, Expectation, validate
from tests.bridge.validation.findings import found, only
from tests.bridge.validation.made_results import (
    SHA,
    SHUFFLES,
    expectation_for,
    made_cell,
    made_row,
    made_set,
    row_id,
    validated,
)


@pytest.mark.parametrize(
    ("change", "check"),
    [
        ({"seq_len_match": False}, "sequence_length"),
        ({"prompt_len_sender": 44}, "sequence_length"),
        ({"token_ids_match": False}, "token_ids"),
        ({"prediction": None}, "null_prediction"),
    ],
)
def test_a_row_that_breaks_the_protocol(change: dict[str, Any], check: Check) -> None:
    results = made_set()
    results.cells[3].lanes[2] = made_row("replace", 42, 2, **change)
    finding = only(validated(results), check)
    assert (finding.severity, finding.cell) == ("blocking", "replace/seed42")
    assert finding.row_ids == (row_id(2),)


def test_null_predictions_of_a_run_that_made_no_text() -> None:
    results = made_set()
    for cell in results.cells:
        cell.lanes = [replace(row, prediction=None) for row in cell.lanes]
    assert len(found(validated(results), "null_prediction")) == 5
    assert validate(results, expectation_for(results, decoded=False)).passed


def shuffled(condition: str) -> ResultSet:
    return ResultSet([made_cell("no_inject"), made_cell(condition, 42)])


def test_self_fallback_is_a_warning_where_all_rows_run() -> None:
    results = shuffled(SHUFFLES[0])
    finding = only(validate(results, expectation_for(results)), "self_fallback")
    assert finding.severity == "warning"
    assert len(finding.row_ids) == 13


def test_self_fallback_is_blocking_in_the_strict_control() -> None:
    results = shuffled(SHUFFLES[1])
    row = results.cells[1].lanes[0]
    results.cells[1].lanes[0] = replace(row, donor_row_id=row.row_id, donor_self_fallback=True)
    cells = [(cell.condition.name, cell.seed) for cell in results.cells]
    counts = {"no_inject": 30, SHUFFLES[1]: 17}
    expectation = Expectation.from_cells(cells, counts, SHA, source_rows=30)
    finding = only(validate(results, expectation), "self_fallback")
    assert (finding.severity, finding.row_ids) == ("blocking", (row.row_id,))


def test_self_fallback_blocks_where_lone_rows_are_dropped() -> None:
    results = shuffled(SHUFFLES[0])
    results.cells[1].condition = Condition(name="mine", source="shuffled", lone_rows="drop")
    report = validate(results, expectation_for(results))
    assert only(report, "self_fallback").severity == "blocking"


@pytest.mark.parametrize("mark", [True, False])
def test_a_donor_that_contradicts_its_mark(mark: bool) -> None:
    results = shuffled(SHUFFLES[0])
    rows = results.cells[1].lanes
    index = next(i for i, row in enumerate(rows) if row.donor_self_fallback is not mark)
    rows[index] = replace(rows[index], donor_self_fallback=mark)
    report = validate(results, expectation_for(results))
    assert found(report, "donor")[0].row_ids == (row_id(index),)


def test_a_donor_of_another_prompt_length() -> None:
    results = shuffled(SHUFFLES[0])
    rows = results.cells[1].lanes
    rows[20] = replace(rows[20], donor_row_id=row_id(21))
    report = validate(results, expectation_for(results))
    assert "another length: mh_clean_000020" in found(report, "donor")[0].reason
