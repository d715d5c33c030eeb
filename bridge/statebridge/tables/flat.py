"""A table as plain columns for programs: one value a cell, every digit.

A spread becomes `name` and `name_sd`, a range `name_low` and `name_high`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from statebridge.tables.table import Range, Spread, Table, Value

PlainValue = str | bool | int | float | None
PlainKind = Literal["text", "boolean", "integer", "number"]


@dataclass(frozen=True, slots=True)
class PlainColumn:
    """One column of plain values."""

    name: str
    kind: PlainKind
    values: list[PlainValue]


def flat_columns(table: Table) -> list[PlainColumn]:
    """Return the table's columns as plain ones."""
    columns: list[PlainColumn] = []
    for index, column in enumerate(table.columns):
        values = [row[index] for row in table.rows]
        if column.kind == "spread":
            columns += _parts((column.name, f"{column.name}_sd"), values)
        elif column.kind == "range":
            columns += _parts((f"{column.name}_low", f"{column.name}_high"), values)
        else:
            columns.append(PlainColumn(column.name, column.kind, [_plain(v) for v in values]))
    return columns


def _parts(names: tuple[str, str], values: Sequence[Value]) -> list[PlainColumn]:
    pairs = [value if isinstance(value, Spread | Range) else (None, None) for value in values]
    return [
        PlainColumn(name, "number", [pair[place] for pair in pairs])
        for place, name in enumerate(names)
    ]


def _plain(value: Value) -> PlainValue:
    if isinstance(value, Spread | Range):  # a table holds them in columns of their own kind only
        raise TypeError(value)
    if isinstance(value, str):
        # JSON can smuggle in half a character, which no file format can hold.
        return value.encode("utf-8", "replace").decode("utf-8")
    return value
