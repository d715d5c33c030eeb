from __future__ import annotations

import pytest

from statebridge.errors import ResultError
from statebridge.papers.linear_translation.result_reader import read_published
from statebridge.records import ResultSet
from statebridge.scoring import score_cell, score_conditions
from statebridge.tables import Spread, Table, table_one
from statebridge.tables.table import printed_value
from tests.bridge.audit.disagreeing_cells import cell, results
from tests.shared_data import SHARED, needs_shared


def printed(table: Table) -> list[list[str]]:
    table = table.printed
    return [
        [printed_value(column, value) for column, value in zip(table.columns, row, strict=True)]
        for row in table.rows
    ]


def test_conditions_stand_in_the_order_of_the_protocol() -> None:
    names = ["zeta", "replace", "alpha", "nl_relay", "no_inject"]
    table = table_one(results([cell(name, "VW") for name in names]))
    assert [row[1] for row in table.rows] == ["no_inject", "nl_relay", "replace", "alpha", "zeta"]


def test_means_and_deviations_over_runs() -> None:
    table = table_one(results([cell("replace", "VVWW", 1), cell("replace", "VWWW", 2)]))
    # Means 0.5 and 0.25; deviation with divisor 1.
    assert printed(table)[0][:4] == ["replace", "2", "4", "0.3750 ± 0.1768"]


def test_a_direction_is_printed_where_there_are_two() -> None:
    given = results([cell("replace", "VW", 1), cell("replace", "WW", 1)])
    given.cells[1].direction = "rev"
    assert [row[0] for row in printed(table_one(given))] == ["fwd", "rev"]


def test_what_is_uneven_or_missing_is_noted() -> None:
    table = table_one(results([cell("replace", "VVW0", 1), cell("replace", "VW", 2)]))
    assert table.rows[0][3] is None
    assert table.notes == (
        "replace (fwd): its runs do not have the same number of rows: 4 (seed 1), 2 (seed 2).",
        "replace (fwd): 1 row(s) without a prediction are in no mean.",
    )


def test_a_condition_without_text_has_no_score() -> None:
    table = table_one(results([cell("no_inject", "00")]))
    assert printed(table) == [["no_inject", "1", "2", "–", "–", "–"]]


def test_other_measures_and_given_scores() -> None:
    given = results([cell("no_inject", "VE")])
    scores = score_conditions(score_cell(one) for one in given.cells)
    table = table_one(given, scores, measures=["exact_match", "gold_logprob"])
    assert [column.name for column in table.columns[4:]] == ["exact_match", "gold_logprob"]
    assert table.rows[0][4:] == (Spread(0.0, None), None)


def test_bad_input_is_refused() -> None:
    given = results([cell("no_inject", "V")])
    with pytest.raises(ResultError, match="did you mean exact_match"):
        table_one(given, measures=["exact_mach"])
    with pytest.raises(ResultError, match="at least one result"):
        table_one(ResultSet([]))
    with pytest.raises(ResultError, match="has no row"):
        table_one(results([cell("no_inject", "")]))
    scores = score_conditions(score_cell(one, ["exact_match"]) for one in given.cells)
    with pytest.raises(ResultError, match="was not scored for legacy_contains"):
        table_one(given, scores, measures=["exact_match", "legacy_contains"])


@needs_shared
def test_published_values_every_digit() -> None:
    table = table_one(read_published(SHARED / "published"))
    zero = "0.0000 ± 0.0000"
    assert printed(table) == [
        ["no_inject", "1", "396", "0.0884", "0.1035", "0.0000"],
        ["nl_relay", "1", "396", "0.0833", "0.0909", "0.0000"],
        ["additive", "3", "396", "0.0926 ± 0.0073", "0.1094 ± 0.0081", zero],
        ["replace", "3", "396", "0.0025 ± 0.0025", "0.0101 ± 0.0044", zero],
    ]
    assert table.notes == ()
