from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from statebridge.papers.linear_translation.expectation import published_expectation
from statebridge.papers.linear_translation.result_reader import read_published
from statebridge.records import ResultSet
from statebridge.validation import validate
from tests.bridge.validation.findings import found
from tests.bridge.validation.made_results import SHUFFLES, made_cell, write_file
from tests.shared_data import SHARED, needs_shared

SEEDED = ("additive", "replace", "scale_corrected", "best_alpha", "same_norm_random", SHUFFLES[0])


@pytest.fixture(scope="module")
def whole_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 files shaped as the published ones, with made-up texts."""
    folder = tmp_path_factory.mktemp("published")
    cells: list[tuple[str, int | None]] = [
        (name, None) for name in ("no_inject", "nl_relay", "b_to_b_self_inject")
    ]
    cells += [(name, seed) for name in (*SEEDED, SHUFFLES[1]) for seed in (42, 123, 456)]
    for condition, seed in cells:
        write_file(made_cell(condition, seed, rows=396), folder)
    return folder


def test_24_of_24_pass(whole_set: Path) -> None:
    report = validate(read_published(whole_set, strict=False), published_expectation(strict=True))
    assert report.blocking == ()
    assert (report.passed_cells, report.expected_cells) == (24, 24)
    assert [(f.check, len(f.row_ids)) for f in report.warnings] == [("self_fallback", 13)] * 3


def test_21_of_21_pass_and_the_strict_control_is_extra(whole_set: Path) -> None:
    report = validate(read_published(whole_set, strict=False), published_expectation())
    assert report.passed
    assert (report.passed_cells, report.expected_cells) == (21, 21)
    assert {f.cell for f in found(report, "extra_cell")} == {
        f"{SHUFFLES[1]}/seed{seed}" for seed in (42, 123, 456)
    }


@pytest.fixture(scope="module")
def published() -> ResultSet:
    return read_published(SHARED / "published")


@needs_shared
def test_the_files_at_hand_pass_and_the_others_are_named(published: ResultSet) -> None:
    report = validate(published, published_expectation())
    assert {finding.check for finding in report.findings} == {"missing_cell"}
    assert (report.passed_cells, report.expected_cells) == (8, 21)
    wanted = {"b_to_b_self_inject"} | {
        f"{name}/seed{seed}"
        for name in ("scale_corrected", "best_alpha", "same_norm_random", "shuffled_translation")
        for seed in (42, 123, 456)
    }
    assert {finding.cell for finding in report.findings} == wanted
    strict = validate(published, published_expectation(strict=True))
    assert len(strict.blocking) == 16


@needs_shared
def test_every_published_file_at_hand_is_known_by_its_rows(published: ResultSet) -> None:
    for cell in published.cells:
        row = cell.lanes[-1]
        edited = replace(
            cell, lanes=[*cell.lanes[:-1], replace(row, prediction=f"{row.prediction}.")]
        )
        report = validate(ResultSet([edited]), published_expectation())
        assert [finding.cell for finding in found(report, "edited")] == [cell.name]
