from __future__ import annotations

from typing import Any

import pytest

from statebridge.errors import NumericError, ResultError, StatebridgeError
from statebridge.tables import Column, Range, Spread, Table
from statebridge.tables.formats import flat_columns
from statebridge.tables.table import printed_value


def test_flat_columns_hold_one_value_a_cell() -> None:
    table = Table(
        "t",
        (Column("a", "A"), Column("m", "M", "spread"), Column("r", "R", "range", printed=False)),
        (("x", Spread(0.5, None), Range(-1.0, 2.0)), (None, None, None)),
    )
    assert [(c.name, c.kind, c.values) for c in flat_columns(table)] == [
        ("a", "text", ["x", None]),
        ("m", "number", [0.5, None]),
        ("m_sd", "number", [None, None]),
        ("r_low", "number", [-1.0, None]),
        ("r_high", "number", [2.0, None]),
    ]
    assert [column.name for column in table.printed.columns] == ["a", "m"]
    assert table.printed.rows == (("x", Spread(0.5, None)), (None, None))


@pytest.mark.parametrize(
    ("column", "value", "text"),
    [
        (Column("a", "A"), "x_y", "x_y"),
        (Column("a", "A"), None, "–"),
        (Column("a", "A", "boolean"), True, "yes"),
        (Column("a", "A", "boolean"), False, "no"),
        (Column("a", "A", "integer"), 1188, "1,188"),
        (Column("a", "A", "integer"), -3, "−3"),
        (Column("a", "A", "number"), 0.08838383, "0.0884"),
        (Column("a", "A", "number"), 3, "3.0000"),
        (Column("a", "A", "number"), -0.00001, "0.0000"),
        (Column("a", "A", "number", digits=1), -2.25, "−2.2"),
        (Column("a", "A", "number", "signed"), 0.0042, "+0.0042"),
        (Column("a", "A", "number", "signed"), -0.0396, "−0.0396"),
        (Column("a", "A", "number", "signed"), 0.0, "0.0000"),
        (Column("a", "A", "number", "p_value"), 0.0312, "0.0312"),
        (Column("a", "A", "number", "p_value"), 1.13e-15, "1.1e−15"),
        (Column("a", "A", "number", "p_value"), 0.0, "0.0000"),
        (Column("a", "A", "spread"), Spread(0.0926, 0.00731), "0.0926 ± 0.0073"),
        (Column("a", "A", "spread"), Spread(0.0884, None), "0.0884"),
        (Column("a", "A", "range", "signed"), Range(-0.0042, 0.0126), "[−0.0042, +0.0126]"),
    ],
)
def test_printed_values(column: Column, value: Any, text: str) -> None:
    assert printed_value(column, value) == text


@pytest.mark.parametrize(
    ("columns", "row", "error", "message"),
    [
        ([Column("a", "A"), Column("a", "B")], ("x", "y"), ResultError, "two columns are named a"),
        ([Column("a", "A")], ("x", "y"), ResultError, "row 1: 2 values for 1 columns"),
        ([Column("a", "A")], (1,), ResultError, "column a: 1 is not of the kind text"),
        ([Column("a", "A", "integer")], (True,), ResultError, "True is not of the kind integer"),
        ([Column("a", "A", "integer")], (1.5,), ResultError, "1.5 is not of the kind integer"),
        ([Column("a", "A", "integer")], (2**63,), ResultError, "does not fit in 64 bits"),
        ([Column("a", "A", "spread")], (Range(0.0, 1.0),), ResultError, "the kind spread"),
        ([Column("a", "A", "number")], (float("nan"),), NumericError, "is not finite"),
        ([Column("a", "A", "range")], (Range(0.0, float("inf")),), NumericError, "is not finite"),
    ],
)
def test_a_table_that_no_format_could_write_is_refused(
    columns: list[Column], row: tuple[Any, ...], error: type[StatebridgeError], message: str
) -> None:
    with pytest.raises(error) as caught:
        Table("t", tuple(columns), (row,))
    assert type(caught.value) is error
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
