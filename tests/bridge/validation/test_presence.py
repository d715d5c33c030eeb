from __future__ import annotations

import random

import pytest

from statebridge.records import ResultSet
from statebridge.validation import Expectation, validate
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


def test_what_is_declared_passes() -> None:
    report = validated(made_set())
    assert report.findings == ()
    assert report.passed
    assert (report.passed_cells, report.expected_cells) == (5, 5)
    assert [cell.rows for cell in report.cells] == [30] * 5


def test_a_missing_cell_is_named() -> None:
    results = made_set()
    results.cells.pop()
    finding = only(validated(results), "missing_cell")
    assert str(finding) == "blocking: replace/seed123 (fwd): missing; run expects it"
    report = validated(results)
    assert (report.passed_cells, report.expected_cells) == (4, 5)
    assert [cell.cell for cell in report.cells if not cell.found] == ["replace/seed123"]


def test_nothing_at_all_is_five_missing_cells() -> None:
    assert len(found(validated(ResultSet([])), "missing_cell")) == 5


def test_an_extra_cell_is_a_warning() -> None:
    results = made_set()
    results.cells.append(made_cell("additive", 42))
    finding = only(validated(results), "extra_cell")
    assert (finding.severity, finding.cell) == ("warning", "additive/seed42")


def test_the_other_direction_is_extra_and_does_not_fill_a_gap() -> None:
    results = made_set()
    results.cells[-1] = made_cell("replace", 123, direction="rev")
    report = validated(results)
    assert [f.check for f in report.blocking] == ["missing_cell"]
    assert [(f.check, f.direction) for f in report.warnings] == [("extra_cell", "rev")]


def test_a_cell_given_twice() -> None:
    results = made_set()
    results.cells.append(made_cell("replace", 42))
    finding = only(validated(results), "duplicate_cell")
    assert "there 2 times (memory, memory)" in finding.reason


def test_truncated_rows_are_counted_and_named() -> None:
    results = made_set()
    del results.cells[1].lanes[-4:]
    finding = only(validated(results), "rows")
    assert finding.cell == "nl_relay"
    assert "holds 26 rows, not 30; missing" in finding.reason
    assert "mh_clean_000026, mh_clean_000027, mh_clean_000028 and 1 more" in finding.reason
    assert finding.row_ids == tuple(row_id(i) for i in range(26, 30))


def test_an_empty_cell() -> None:
    results = made_set()
    results.cells[1].lanes.clear()
    assert only(validated(results), "rows").reason == "holds no row"


def test_an_unfinished_cell() -> None:
    results = made_set()
    results.cells[1].complete = False
    assert "not complete" in only(validated(results), "rows").reason


def test_a_row_there_twice_and_the_row_that_it_hides() -> None:
    results = made_set()
    cell = results.cells[1]
    cell.lanes[5] = cell.lanes[4]
    report = validated(results)
    assert [f.check for f in report.findings] == ["rows", "duplicate_rows"]
    assert found(report, "rows")[0].row_ids == (row_id(5),)
    assert found(report, "duplicate_rows")[0].row_ids == (row_id(4),)


def test_a_row_of_another_dataset() -> None:
    results = made_set()
    results.cells[1].lanes[5] = made_row("nl_relay", None, 5, row_id="stranger")
    reasons = [f.reason for f in found(validated(results), "rows")]
    assert any("dataset lacks: stranger" in reason for reason in reasons)
    assert any("1 row(s) missing: mh_clean_000005" in reason for reason in reasons)


def test_undeclared_row_counts_are_compared_between_cells() -> None:
    results = made_set()
    expectation = Expectation.model_validate(
        {
            "conditions": [
                {"condition": "no_inject"},
                {"condition": "nl_relay"},
                {"condition": "b_to_b_self_inject"},
                {"condition": "replace", "seeds": [42, 123]},
            ]
        }
    )
    assert validate(results, expectation).passed
    del results.cells[0].lanes[0]
    assert only(validate(results, expectation), "rows").row_ids == (row_id(0),)


def test_declared_row_ids_hold_even_where_every_cell_lacks_a_row() -> None:
    results = made_set()
    for cell in results.cells:
        del cell.lanes[3]
    ids = tuple(row_id(i) for i in range(30))
    report = validate(results, expectation_for(results, row_ids=ids))
    assert [f.row_ids for f in found(report, "rows")] == [(row_id(3),)] * 5


def strict_set() -> tuple[ResultSet, Expectation]:
    results = ResultSet([made_cell("no_inject")] + [made_cell(SHUFFLES[1], s) for s in (42, 123)])
    cells = [(cell.condition.name, cell.seed) for cell in results.cells]
    counts = {"no_inject": 30, SHUFFLES[1]: 17}
    return results, Expectation.from_cells(cells, counts, SHA, source_rows=30)


def test_exclusions_as_declared_pass() -> None:
    results, expectation = strict_set()
    assert validate(results, expectation).findings == ()


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("source_rows", 29, "taken from 29 source rows, not 30"),
        ("source_rows", None, "taken from an unrecorded number of source rows, not 30"),
        ("excluded_rows", 12, "excludes 12 rows, not 13"),
    ],
)
def test_wrong_exclusions(field: str, value: int | None, reason: str) -> None:
    results, expectation = strict_set()
    setattr(results.cells[1], field, value)
    assert only(validate(results, expectation), "exclusions").reason == reason


def test_seeds_over_other_rows() -> None:
    results, expectation = strict_set()
    results.cells[2].lanes[0] = made_row(SHUFFLES[1], 123, 2)
    report = validate(results, expectation)
    (finding,) = found(report, "unequal_seeds")
    assert finding.row_ids == (row_id(2), row_id(13))


def test_the_order_of_cells_and_rows_changes_nothing() -> None:
    results = made_set()
    del results.cells[0].lanes[:2]
    results.cells[3].lanes[4] = made_row("replace", 42, 4, gold="other", token_ids_match=False)
    results.cells.append(made_cell("additive", 9))
    wanted = validated(results)
    shuffle = random.Random(0).shuffle
    shuffle(results.cells)
    for cell in results.cells:
        shuffle(cell.lanes)
    mixed = validated(results)
    assert not wanted.passed
    assert [(f.check, f.cell, set(f.row_ids)) for f in mixed.findings] == [
        (f.check, f.cell, set(f.row_ids)) for f in wanted.findings
    ]
    assert mixed.cells == wanted.cells


def test_a_report_is_json_and_back() -> None:
    results = made_set()
    results.cells.pop()
    report = validated(results)
    text = report.model_dump_json()
    assert '"passed":false' in text
    assert '"passed_cells":4' in text
