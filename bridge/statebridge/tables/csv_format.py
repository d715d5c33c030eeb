"""Tables as CSV (RFC 4180): every column, every digit; empty where there is no value."""

from __future__ import annotations

import csv
import io

from statebridge.data.spreadsheet_text import guarded
from statebridge.tables.flat import PlainValue, flat_columns
from statebridge.tables.table import Table


def to_csv(table: Table) -> str:
    """Return the table as CSV, with a header of column names and CR LF line ends.

    Text that a spreadsheet program could take for a formula has an apostrophe in front
    (`statebridge.data.spreadsheet_text`); true and false are `true` and `false`.
    """
    columns = flat_columns(table)
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow([column.name for column in columns])
    for values in zip(*(column.values for column in columns), strict=True):
        writer.writerow([_cell(value) for value in values])
    return text.getvalue()


def _cell(value: PlainValue) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    # repr gives the shortest text that reads back as the same number.
    return guarded(value) if isinstance(value, str) else repr(value)
