"""The report says whether what is sent is used inside the sender."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from statebridge.records import ResultSet
from statebridge.report import write_report
from statebridge.report.sections.sender import SenderView, sender_view
from statebridge.results.sender_checks import SenderChecks, write_sender_checks
from statebridge.stats import Settings, compare
from tests.bridge.figures.made_run import made_run
from tests.bridge.report.contradictions import unlinked
from tests.bridge.results.made_checks import check, made_checks

QUICK = Settings(permutations=99)


def results_in(folder: Path, checks: SenderChecks | None) -> ResultSet:
    made = made_run(("no_inject", "replace"), rows=6, seeds=(42,))
    if checks is not None:
        write_sender_checks(checks, folder)
    return replace(made, cells=[replace(cell, source=folder) for cell in made.cells])


def view_of(folder: Path, checks: SenderChecks) -> SenderView:
    view = sender_view(results_in(folder, checks))
    assert view is not None
    return view


def test_use_is_said_with_numbers(tmp_path: Path) -> None:
    view = view_of(tmp_path, made_checks())
    opening, read, compared = view.sentences
    assert "gives the gold answer in 83 % of 12 rows" in opening
    assert "gpt_neox.layers.2 (layer 2 of 4)" in opening
    assert "little that a replacement could take" not in opening
    assert read.startswith("The sender uses what is read at the last position: with the mean state")
    assert "changes by −3.01 nats [" in read
    assert "from 83 % to 0 % (n = 12)" in read
    assert "Zero there: −4.01 nats" in read
    assert "it gives that row's answer in 50 % of 12 rows (0 % before)" in read
    assert compared.startswith("For comparison, mean state elsewhere: the first token −0.01 nats")
    assert [row[0] for row in view.table.rows] == ["last", "last", "last", "first"]


@pytest.mark.parametrize(
    ("fall", "words"),
    [
        (0.0, "The sender does not need what is read at the last position"),
        (-3.0, "stands in the way of the sender's own answer"),
    ],
)
def test_no_use_is_said_too(tmp_path: Path, fall: float, words: str) -> None:
    view = view_of(tmp_path, made_checks(check("last", "mean", fall, right=True)))
    assert words in view.sentences[1]


def test_few_rows_leave_it_open(tmp_path: Path) -> None:
    view = view_of(tmp_path, made_checks(check("last", "mean", 3.0, rows=1)))
    assert view.sentences[1].startswith("Whether the sender uses what is read at the last position")


def test_a_sender_that_knows_little_is_pointed_out(tmp_path: Path) -> None:
    made = made_checks()
    rows = tuple(
        row.model_copy(update={"gold": row.gold.model_copy(update={"all_right": False})})
        for row in made.rows
    )
    view = view_of(tmp_path, made.model_copy(update={"rows": rows}))
    assert "It knows few of the answers" in view.sentences[0]


def test_both_reports_show_it_or_say_that_it_was_not_checked(tmp_path: Path) -> None:
    for name, checks in (("with", made_checks()), ("without", None)):
        folder = tmp_path / name
        folder.mkdir()
        results = results_in(folder, checks)
        comparison = compare(
            results, ["no_inject"], metrics=["word_boundary_contains"], settings=QUICK
        )
        write_report(results, folder / "report", comparison=comparison, figures=False)
        for file in ("report.html", "report.md"):
            text = unlinked((folder / "report" / file).read_text(encoding="utf-8"))
            assert ("The sender uses what is read at the last position" in text) == bool(checks)
            assert "Is what is sent used there?" in text
            assert ("was not checked. Add sender" in text) == (not checks)


def test_results_without_a_run_directory_have_none() -> None:
    made = made_run(("no_inject",), rows=2)
    assert sender_view(replace(made, manifest=None)) is None
    assert sender_view(made) is None
