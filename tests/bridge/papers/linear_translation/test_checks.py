from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from statebridge.errors import ResultError
from statebridge.papers.linear_translation.checks import rows_digest
from statebridge.papers.linear_translation.result_reader import read_published
from statebridge.records import ResultSet
from statebridge.validation import Expectation, Original, ValidationReport, validate
from tests.bridge.validation.findings import only
from tests.bridge.validation.made_results import made_cell, read_edited, row_id, write_file

EXPECTATION = Expectation.from_cells([("replace", 42)], 30)


def checked(tmp_path: Path, edit: Callable[[Any], None] | None = None) -> ValidationReport:
    return validate(read_edited(tmp_path, made_cell("replace", 42), edit), EXPECTATION)


def test_a_file_as_written_passes(tmp_path: Path) -> None:
    assert checked(tmp_path).findings == ()


def row_edit(field: str, value: Any, index: int = 7) -> Callable[[Any], None]:
    def edit(payload: Any) -> None:
        payload["per_sample"][index][field] = value

    return edit


def reasons(report: ValidationReport) -> list[str]:
    assert not report.passed
    assert {finding.check for finding in report.findings} == {"edited"}
    return [finding.reason for finding in report.findings]


def test_an_edited_prediction(tmp_path: Path) -> None:
    found = reasons(checked(tmp_path, row_edit("prediction", "no longer right")))
    assert "legacy_contains contradicts prediction and gold in 1 row(s): mh_clean_000007" in found
    assert "eval_result.correct contradicts prediction and gold in 1 row(s): mh_clean_000007" in (
        found
    )
    assert any(reason.startswith("metrics.contains_acc is 0.16") for reason in found)


def test_an_edited_gold_answer(tmp_path: Path) -> None:
    found = reasons(checked(tmp_path, row_edit("gold", "zebra")))
    assert any("legacy_contains contradicts" in reason for reason in found)


def test_an_edited_score(tmp_path: Path) -> None:
    found = reasons(checked(tmp_path, row_edit("legacy_exact_match", True)))
    assert found == ["legacy_exact_match contradicts prediction and gold in 1 row(s): " + row_id(7)]


def test_a_row_edited_with_its_scores_contradicts_the_means(
    tmp_path: Path,
) -> None:
    def edit(payload: Any) -> None:
        row = payload["per_sample"][7]
        row["prediction"] = "no longer right"
        row["legacy_contains"] = False
        row["eval_result"]["correct"] = False

    (reason,) = reasons(checked(tmp_path, edit))
    assert reason.startswith("metrics.contains_acc is 0.1666")


@pytest.mark.parametrize(
    ("field", "value", "name"),
    [
        ("translated_norm_mean", 2.0, "mean_translated_norm"),
        ("injected_norm_mean", 2.0, "mean_injected_norm"),
        ("b_hidden_norm_mean", None, "mean_b_hidden_norm"),
    ],
)
def test_an_edited_measurement(tmp_path: Path, field: str, value: Any, name: str) -> None:
    (reason,) = reasons(checked(tmp_path, row_edit(field, value)))
    assert reason.startswith(f"diagnostics.{name} is ")


def test_a_hidden_mismatch(tmp_path: Path) -> None:
    def edit(payload: Any) -> None:
        payload["diagnostics"]["token_mismatch_count"] = 2

    assert reasons(checked(tmp_path, edit)) == [
        "diagnostics.token_mismatch_count is 2, but its rows give 0"
    ]


def test_rows_cut_off(tmp_path: Path) -> None:
    def edit(payload: Any) -> None:
        del payload["per_sample"][-3:]

    report = checked(tmp_path, edit)
    found = {finding.check for finding in report.blocking}
    assert found == {"rows", "edited"}
    assert "metrics.n is 30, but its rows give 27" in [f.reason for f in report.findings]
    assert "config.n_samples is 30, but its rows give 27" in [f.reason for f in report.findings]


@pytest.mark.parametrize("value", [10**400, "many", None, True, {}])
def test_a_stored_mean_that_is_no_mean(tmp_path: Path, value: Any) -> None:
    def edit(payload: Any) -> None:
        payload["metrics"]["contains_acc"] = value

    (reason,) = reasons(checked(tmp_path, edit))
    assert "metrics.contains_acc" in reason


@pytest.mark.parametrize("value", [None, [], "text", {}])
def test_a_file_without_metrics_cannot_be_checked(tmp_path: Path, value: Any) -> None:
    def edit(payload: Any) -> None:
        payload["metrics"] = value

    assert only(checked(tmp_path, edit), "unverifiable").severity == "warning"


def test_rows_without_a_stored_score_cannot_be_checked(tmp_path: Path) -> None:
    finding = only(checked(tmp_path, row_edit("legacy_contains", None)), "unverifiable")
    assert finding.row_ids == (row_id(7),)


def test_null_predictions_are_reported_once(tmp_path: Path) -> None:
    report = checked(tmp_path, row_edit("prediction", None))
    assert [finding.check for finding in report.findings] == ["null_prediction"]


def original(results: ResultSet, created_at: str) -> Expectation:
    known = Original(
        condition="replace",
        seed=42,
        created_at=created_at,
        rows_sha256=rows_digest(results.cells[0].lanes),
    )
    return EXPECTATION.model_copy(update={"originals": (known,)})


def test_a_known_file_is_held_to_its_rows(tmp_path: Path) -> None:
    results = read_edited(tmp_path, made_cell("replace", 42))
    expectation = original(results, "2026-05-01T00:00:00+00:00")
    assert validate(results, expectation).findings == ()
    # An edit that flips no score and no mean.
    quiet = read_edited(tmp_path, made_cell("replace", 42), row_edit("prediction", "quiet", 8))
    assert validate(quiet, EXPECTATION).passed
    finding = only(validate(quiet, expectation), "edited")
    assert "its rows are not those published" in finding.reason


def test_a_run_of_ones_own_is_not_held_to_the_known_rows(tmp_path: Path) -> None:
    expectation = original(ResultSet([made_cell("replace", 42)]), "2026-04-28T00:00:00+00:00")
    quiet = read_edited(tmp_path, made_cell("replace", 42), row_edit("prediction", "quiet", 8))
    assert validate(quiet, expectation).passed


def test_the_digest_depends_on_every_text_and_not_on_the_order() -> None:
    rows = made_cell("replace", 42).lanes
    assert rows_digest(rows[::-1]) == rows_digest(rows)
    for change in ({"prediction": "x"}, {"prediction": None}, {"gold": "x"}, {"row_id": "x"}):
        assert rows_digest([replace(rows[0], **change), *rows[1:]]) != rows_digest(rows)
    assert rows_digest([replace(rows[0], prediction="half \ud800")])


@pytest.mark.parametrize("text", ["{", "\xff"])
def test_a_file_that_changed_after_it_was_read(tmp_path: Path, text: str) -> None:
    path = write_file(made_cell("replace", 42), tmp_path)
    results = read_published(path)
    path.write_text(text, encoding="latin-1")
    with pytest.raises(ResultError, match="no longer JSON") as caught:
        validate(results, EXPECTATION)
    assert "\n" not in str(caught.value)


def test_a_run_directory_stores_no_such_facts(tmp_path: Path) -> None:
    results = ResultSet([made_cell("replace", 42, source=tmp_path)])
    assert validate(results, EXPECTATION).findings == ()


def test_reformatting_a_file_is_no_edit(tmp_path: Path) -> None:
    path = write_file(made_cell("replace", 42), tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text()), indent=3, sort_keys=True))
    assert validate(read_published(path), EXPECTATION).findings == ()
