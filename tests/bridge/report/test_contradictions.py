"""No report has two statements that cannot both hold; the reader of them finds what is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from statebridge.records import ResultSet
from statebridge.report import write_report
from statebridge.stats import Settings, compare
from tests.bridge.report.contradictions import contradictions, unlinked
from tests.bridge.stats.tables import SEEDS, cell, results

ROWS = 64


def right(count: int, key: int = 0, rows: int = ROWS) -> list[int]:
    """So many right rows; which ones differs a little by key."""
    outcomes = np.array([1] * count + [0] * (rows - count))
    np.random.default_rng(key).shuffle(outcomes[count // 2 :])
    return [int(value) for value in outcomes]


def private_study(channel: int, shuffled: int, floor: int = 0) -> ResultSet:
    """A shared and a private setting, each with a channel and a control."""
    cells = [
        cell("no_inject", right(60)),
        cell("question_only", right(floor)),
        cell("skyline", right(60)),
    ]
    for seed in SEEDS:
        cells += [
            cell("additive", right(59, seed), seed),
            cell("replace", right(2, seed), seed),
            cell("scale_corrected", right(9, seed), seed),
            cell("private_last", right(channel, seed), seed),
            cell("private_last_shuffled", right(shuffled, seed), seed),
        ]
    return results(*cells)


def report_of(table: ResultSet, folder: Path) -> str:
    comparison = compare(table, settings=Settings(permutations=99, stratify_by=()))
    (path,) = write_report(table, folder, formats=("html",), figures=False, comparison=comparison)
    return unlinked(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    return report_of(private_study(30, 2), tmp_path_factory.mktemp("report"))


@pytest.mark.slow
@pytest.mark.parametrize(("channel", "shuffled", "floor"), [(0, 0, 0), (4, 1, 2), (60, 59, 0)])
def test_no_statement_contradicts_another(
    channel: int, shuffled: int, floor: int, tmp_path: Path
) -> None:
    assert contradictions(report_of(private_study(channel, shuffled, floor), tmp_path)) == []


@pytest.mark.slow
def test_a_verdict_on_unseen_rows_contradicts_nothing(tmp_path: Path) -> None:
    table = private_study(40, 2)
    ids = [lane.row_id for lane in table.cells[0].lanes]
    for one in table.cells:
        labels = {row_id: "no" if place % 2 else "yes" for place, row_id in enumerate(ids)}
        one.row_facts = {"answer_seen": labels}
    html = report_of(table, tmp_path)
    assert "On the 32 of 64 rows whose answers no map of this run was trained on." in html
    assert contradictions(html) == []
    text = (
        "On the other 32 rows, whose answers a map was trained on, by word-boundary containment: "
    )
    private = html.index("private_last +", html.index(text, html.index("Private setting")))
    wrong = f"{html[:private]}private_last −{html[private + len('private_last +') :]}"
    assert any("outside its interval" in line for line in contradictions(wrong))


def test_the_reader_finds_nothing_wrong_in_what_is_right(page: str) -> None:
    assert contradictions(page) == []


_GAIN_OF_CONTROL = "Gain over question_only from private_last_shuffled"


@pytest.mark.parametrize(
    ("text", "other", "found"),
    [
        ("private_last: 0.4688 against", "private_last: 0.5688 against", "not that of the means"),
        ("a difference of +0.4688", "a difference of +0.9688", "outside its interval"),
        ("private_last 50 % [", "private_last 75 % [", "a share of 75%"),
        ("Better than the baseline", "Inconclusive: neither", "two verdicts"),
        ("Gain over question_only from private_last", _GAIN_OF_CONTROL, "is not better"),
        ("private_last: 47 % [", "private_last: 57 % [", "two means"),
        ("additive inconclusive (by", "additive destructive (by", "additive is not worse"),
    ],
)
def test_the_reader_finds_what_is_wrong(page: str, text: str, other: str, found: str) -> None:
    assert text in page
    assert any(found in line for line in contradictions(page.replace(text, other)))


def test_the_audits_pair_is_found(page: str) -> None:
    # "private_last_shuffled 0 % [0 %, 0 %]" beside a difference of +/- 0.056.
    start = page.index("private_last_shuffled ", page.index("Share of that gap closed"))
    end = page.index("]", start)
    degenerate = f"{page[:start]}private_last_shuffled 3 % [3 %, 3 %{page[end:]}"
    assert any("a share to within 0%" in line for line in contradictions(degenerate))
