from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from statebridge.experiment.conditions import Condition
from statebridge.experiment.presets import named_condition
from statebridge.records import CellResult, ResultSet
from statebridge.validation import validate
from tests.bridge.validation.findings import found, only
from tests.bridge.validation.made_results import (
    SHUFFLES,
    expectation_for,
    made_cell,
    made_row,
    made_set,
    row_id,
    validated,
)


def condition(name: str = "mine", **declared: Any) -> Condition:
    return Condition(name=name, **declared)


def test_a_self_injection_that_differs_names_the_first_rows() -> None:
    results = made_set()
    for index in (4, 9, 11, 20):
        row = made_row("b_to_b_self_inject", None, index, prediction=f"other {index}")
        results.cells[2].lanes[index] = row
    finding = only(validated(results), "self_injection")
    assert finding.reason == (
        "writes back what was there, yet 4 row(s) differ from no_inject: "
        "mh_clean_000004, mh_clean_000009, mh_clean_000011 and 1 more"
    )


def test_tokens_count_even_where_the_texts_agree() -> None:
    results = made_set()
    for cell in (results.cells[0], results.cells[2]):
        cell.lanes = [replace(row, token_ids=(1, 2)) for row in cell.lanes]
    assert validated(results).passed
    results.cells[2].lanes[6] = replace(results.cells[2].lanes[6], token_ids=(1, 3))
    assert only(validated(results), "self_injection").row_ids == (row_id(6),)


def test_a_self_injection_without_a_baseline() -> None:
    results = ResultSet([made_cell("b_to_b_self_inject")])
    report = validate(results, expectation_for(results))
    assert only(report, "self_injection").severity == "warning"


@pytest.mark.parametrize(
    "declared",
    [
        condition(source="receiver"),
        condition(source="translated", weight=0.0),
        condition(source="random", operator="add", weight=0.0),
        condition(source="receiver", positions="last", source_positions="last"),
    ],
)
def test_every_condition_that_changes_nothing_is_held_to_it(declared: Condition) -> None:
    equal = replace(made_cell("no_inject"), condition=declared)
    results = ResultSet([made_cell("no_inject"), equal])
    assert validate(results, expectation_for(results)).findings == ()
    equal.lanes[0] = replace(equal.lanes[0], prediction="changed")
    assert only(validate(results, expectation_for(results)), "self_injection").cell == "mine"


@pytest.mark.parametrize(
    "declared",
    [
        condition(source="receiver", operator="sum"),
        condition(source="receiver", source_positions="last"),
        condition(source="receiver", match_norm=True),
        condition(source="translated", weight=0.1),
    ],
)
def test_other_conditions_may_change_the_text(declared: Condition) -> None:
    mine = replace(made_cell("replace"), condition=declared)
    results = ResultSet([made_cell("no_inject"), mine])
    assert validate(results, expectation_for(results)).findings == ()


def copied(cell: CellResult, **changes: Any) -> CellResult:
    return replace(cell, lanes=list(cell.lanes), **changes)


def test_two_equal_seeds_would_count_one_run_twice() -> None:
    results = made_set()
    results.cells[4] = copied(results.cells[3], seed=123)
    finding = only(validated(results), "identical_cells")
    assert finding.severity == "blocking"
    assert finding.cell == "replace/seed123"
    assert "the same text as replace/seed42 in all 30 rows" in finding.reason


def test_a_condition_identical_to_the_baseline() -> None:
    results = made_set()
    results.cells[3] = copied(results.cells[0], condition=named_condition("replace"), seed=42)
    report = validated(results)
    assert not report.passed
    pairs = {(f.cell, f.reason.split(" in all")[0]) for f in found(report, "identical_cells")}
    assert pairs == {
        ("replace/seed42", "the same text as no_inject"),
        ("replace/seed42", "the same text as b_to_b_self_inject"),
    }


def test_the_strict_shuffle_equals_the_full_one_of_its_seed() -> None:
    strict, full = made_cell(SHUFFLES[1], 42, rows=60), made_cell(SHUFFLES[0], 42, rows=60)
    full_by_id = {row.row_id: row.prediction for row in full.lanes}
    assert all(full_by_id[row.row_id] == row.prediction for row in strict.lanes)
    assert found(validated(ResultSet([strict, full])), "identical_cells") == []
    strict.seed = 123
    assert len(found(validated(ResultSet([strict, full])), "identical_cells")) == 1


SCALED: dict[str, Any] = {"source": "translated", "weight": 0.3, "match_norm": True}


def test_one_intervention_under_two_names_gives_one_text() -> None:
    first = replace(made_cell("replace", 42), condition=condition(**SCALED))
    second = replace(first, condition=condition("yours", **SCALED))
    assert found(validated(ResultSet([first, second])), "identical_cells") == []
    second.condition = condition("yours", **{**SCALED, "weight": 0.4})
    assert len(found(validated(ResultSet([first, second])), "identical_cells")) == 1


def test_a_copy_that_was_cut_short_is_still_a_copy() -> None:
    results = made_set()
    short = copied(results.cells[3], condition=named_condition("additive"))
    short.lanes = short.lanes[:25]
    results.cells.append(short)
    (finding,) = found(validated(results), "identical_cells")
    assert "in all 25 rows that both have" in finding.reason


def test_equal_texts_with_other_measurements_are_a_warning() -> None:
    results = made_set()
    results.cells[4].lanes = [
        replace(row, prediction=other.prediction)
        for row, other in zip(results.cells[4].lanes, results.cells[3].lanes, strict=True)
    ]
    finding = only(validated(results), "identical_cells")
    assert finding.severity == "warning"
    assert "the runs are distinct" in finding.reason


def test_too_few_equal_rows_are_a_warning() -> None:
    cells = [made_cell("replace", 42, rows=19)]
    cells.append(copied(cells[0], seed=123))
    results = ResultSet(cells)
    finding = only(validate(results, expectation_for(results, rows=19)), "identical_cells")
    assert finding.severity == "warning"
    assert "too few" in finding.reason


def test_of_many_that_say_the_same_each_is_named_once() -> None:
    first = made_cell("replace", 42, rows=19)
    cells = [first, *(copied(first, seed=seed) for seed in (123, 456, 789))]
    results = ResultSet(cells)
    findings = found(validate(results, expectation_for(results, rows=19)), "identical_cells")
    assert [finding.cell for finding in findings] == [cell.name for cell in cells[1:]]
    assert all("the same text as replace/seed42" in finding.reason for finding in findings)


def test_directions_are_kept_apart() -> None:
    results = made_set()
    results.cells.append(copied(results.cells[3], direction="rev"))
    assert found(validated(results), "identical_cells") == []
