from __future__ import annotations

from typing import get_args

import pytest

from statebridge.errors import ResultError
from statebridge.papers.linear_translation.result_reader import read_published
from statebridge.stats import Settings, compare
from statebridge.stats.comparison import IntervalMethod, PMethod, Verdict
from statebridge.tables import Column, Range, Table, comparison_table, to_csv, to_markdown
from statebridge.tables.comparison_table import (
    METHOD_NAMES,
    TEST_NAMES,
    VERDICT_MEANINGS,
    grouped_warnings,
)
from statebridge.tables.table import printed_value
from tests.bridge.audit.disagreeing_cells import cell, results
from tests.bridge.stats.tables import measured
from tests.bridge.stats.tables import results as results_of
from tests.shared_data import SHARED, needs_shared

QUICK = Settings(permutations=99)
CODES = "VAWW" * 10


def values(table: Table, row: int = 0) -> dict[str, object]:
    return {
        column.name: value for column, value in zip(table.columns, table.rows[row], strict=True)
    }


def test_every_method_test_and_verdict_has_words() -> None:
    assert set(METHOD_NAMES) == set(get_args(IntervalMethod))
    assert set(TEST_NAMES) == set(get_args(PMethod))
    assert set(VERDICT_MEANINGS) == set(get_args(Verdict))


def test_a_row_says_what_the_difference_says() -> None:
    given = results([cell("no_inject", CODES), cell("replace", "W" * 40, 1)])
    comparison = compare(given, metrics=["word_boundary_contains"], settings=QUICK)
    (difference,) = comparison.differences
    row = values(comparison_table(comparison))
    assert difference.interval is not None
    assert row["interval"] == Range(difference.interval.low, difference.interval.high)
    assert row["interval_method"] == difference.interval.method
    assert (row["delta"], row["p_holm"]) == (difference.delta, difference.p_holm)
    assert (row["gained"], row["lost"], row["tied"]) == (0, 20, 20)
    assert row["verdict"] == difference.verdict == "worse"
    # What would have been found is only of interest where nothing was.
    assert row["minimal_detectable"] is None


def test_what_could_have_been_found_is_shown_where_nothing_was() -> None:
    given = results([cell("no_inject", CODES), cell("replace", CODES[1:] + "W", 1)])
    comparison = compare(given, metrics=["word_boundary_contains"], settings=QUICK)
    (difference,) = comparison.differences
    assert difference.verdict == "inconclusive"
    assert difference.effect is not None
    row = values(comparison_table(comparison))
    assert row["minimal_detectable"] == difference.effect.minimal_detectable is not None


def test_a_divergence_from_its_baseline_has_no_counts() -> None:
    given = results_of(
        measured("no_inject", "kl_from_no_inject", [0.0] * 9),
        measured("replace", "kl_from_no_inject", [0.1 * i for i in range(9)], 42),
    )
    table = comparison_table(compare(given, settings=QUICK))
    row = values(table)
    assert (row["gained"], row["lost"], row["verdict"], row["p_holm"]) == (None,) * 4
    assert any("Without a verdict (kl_from_no_inject is 0 under" in note for note in table.notes)


def test_a_narrow_interval_is_not_printed_as_none() -> None:
    column = Column("interval", "interval", "range", "signed")
    assert printed_value(column, Range(-2e-7, 1e-7)) == "[−0.0000002, +0.0000001]"
    assert printed_value(column, Range(-2e-13, 3e-13)) == "[−2.0e−13, 3.0e−13]"
    assert printed_value(column, Range(2e-6, 0.03)) == "[+0.000002, +0.030000]"
    assert printed_value(column, Range(0.0, 0.0)) == "[0.0000, 0.0000]"
    assert printed_value(column, Range(-0.1, 0.1)) == "[−0.1000, +0.1000]"


def test_notes_name_intervals_and_tests_and_repeat_warnings() -> None:
    given = results([cell("no_inject", CODES), cell("replace", "W" * 39 + "0", 1)])
    comparison = compare(given, metrics=["word_boundary_contains"], settings=QUICK)
    notes = "\n".join(comparison_table(comparison).notes)
    assert "95 % mid-P limits of gained and lost rows, rows as clusters" in notes
    assert "p: exact McNemar test." in notes
    assert "80 % power" in notes
    assert "null prediction" in notes


def test_one_row_has_no_interval_and_says_so() -> None:
    given = results([cell("no_inject", "V"), cell("replace", "W", 1)])
    table = comparison_table(compare(given, metrics=["legacy_contains"], settings=QUICK))
    row = values(table)
    assert row["interval"] is None
    assert row["interval_method"] is None
    assert any("one row gives no interval" in note for note in table.notes)
    assert "| – |" in to_markdown(table)
    assert "replace" in to_csv(table)


def test_an_empty_comparison_is_refused() -> None:
    given = results([cell("no_inject", CODES), cell("replace", CODES, 1)])
    comparison = compare(given, metrics=["legacy_contains"], settings=QUICK)
    with pytest.raises(ResultError, match="no difference"):
        comparison_table(comparison.model_copy(update={"differences": ()}))


@pytest.mark.slow
@needs_shared
def test_the_published_deltas_and_intervals() -> None:
    comparison = compare(
        read_published(SHARED / "published"),
        ["no_inject", "nl_relay"],
        metrics=["word_boundary_contains"],
        mode="published",
    )
    text = to_markdown(comparison_table(comparison))
    for condition, baseline, printed in (
        ("additive", "no_inject", "+0.0042 | [−0.0042, +0.0126]"),
        ("additive", "nl_relay", "+0.0093 | [−0.0126, +0.0311]"),
        ("replace", "no_inject", "−0.0859 | [−0.1019, −0.0699]"),
        ("replace", "nl_relay", "−0.0808 | [−0.0968, −0.0648]"),
    ):
        (line,) = [
            line for line in text.split("\n") if line.startswith(f"| {condition} | {baseline} |")
        ]
        assert printed in line
    assert "1,188" in text
    assert "pooled, as published" in text
    assert "verdict" not in text.lower()


def test_a_reason_that_several_differences_share_is_one_line() -> None:
    given = results([cell(name, CODES, 1) for name in ("additive", "replace")])
    given.cells.insert(0, cell("no_inject", CODES))
    comparison = compare(
        given, metrics=["word_boundary_contains", "legacy_contains"], settings=QUICK
    )
    assert sum(len(d.warnings) for d in comparison.differences) == 4
    (line,) = [line for line in grouped_warnings(comparison) if "commonest" in line]
    assert line == (
        "additive, replace against no_inject (fwd, word_boundary_contains); additive, replace "
        "against no_inject (fwd, legacy_contains): fewer than 15 rows leave the commonest "
        "difference; the interval may be wider than its level needs"
    )
