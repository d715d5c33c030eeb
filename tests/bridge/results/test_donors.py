"""Donors that have their row's answer."""

from __future__ import annotations

from dataclasses import replace

from statebridge.records import CellResult, DatasetRow
from statebridge.results.donors import same_answer_rows
from tests.bridge.stats.tables import measured

GOLDS = ["Yes", "no", "yes.", "No", "U.S."]
DONORS = ["row0002", "row0000", "row0002", "row0009", "row0001"]


def shuffled() -> CellResult:
    cell = measured("shuffled_translation", "gold_logprob", [-1.0] * 5, 42)
    cell.lanes = [
        replace(lane, gold=gold, donor_row_id=donor)
        for lane, gold, donor in zip(cell.lanes, GOLDS, DONORS, strict=True)
    ]
    return cell


def test_answers_are_compared_in_one_form() -> None:
    # Row 2 got its own state, and the donor of row 3 is not among the results.
    assert same_answer_rows(shuffled(), {}) == {"row0000"}


def test_aliases_are_answers_too() -> None:
    row = DatasetRow("row0004", "", "?", "U.S.", {"aliases": "America|no"})
    assert same_answer_rows(shuffled(), {"row0004": row}) == {"row0000", "row0004"}


def test_what_the_run_recorded_comes_first() -> None:
    cell = shuffled()
    cell.same_answer_donors = frozenset({"row0003"})
    assert same_answer_rows(cell, {}) == {"row0003"}


def test_cells_without_donors_have_none() -> None:
    assert same_answer_rows(measured("no_inject", "gold_logprob", [-1.0]), {}) == frozenset()
