"""A table: named columns with a kind and a number format, rows, and values as readers see them.

The formats that people read (Markdown, LaTeX) print the columns marked `printed`, with the
column's format: fixed digits, true minus signs, an en dash for nothing. The formats that
programs read (CSV, Parquet) hold every column with every digit (`statebridge.tables.formats`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from statebridge.errors import NumericError, ResultError
from statebridge.stats.comparison import Interval


class Spread(NamedTuple):
    """A mean and its standard deviation over runs (None for a single run)."""

    mean: float
    sd: float | None


class Range(NamedTuple):
    """The two ends of an interval."""

    low: float
    high: float

    @classmethod
    def of(cls, interval: Interval | None) -> Range | None:
        """Return the ends of an interval, where there is one."""
        return None if interval is None else cls(interval.low, interval.high)


Value = str | bool | int | float | Spread | Range | None
Kind = Literal["text", "boolean", "integer", "number", "spread", "range"]
NumberFormat = Literal["fixed", "signed", "p_value"]
"""`fixed` decimals; `signed`, the same with a plus sign; `p_value`, four decimals or, below
0.0001, two significant digits."""

_TYPES: dict[Kind, tuple[type, ...]] = {
    "text": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "spread": (Spread,),
    "range": (Range,),
}


@dataclass(frozen=True, slots=True)
class Column:
    """One column."""

    name: str
    """For programs: lower case, words joined by underscores."""
    header: str
    """For readers."""
    kind: Kind = "text"
    format: NumberFormat = "fixed"
    digits: int = 4
    """Decimals of numbers, spreads and ranges."""
    printed: bool = True
    """False leaves the column to the formats that programs read."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table; made once, then only read.

    Raises:
        ResultError: A row of another length than the columns, a value that is not of its
            column's kind, or two columns of one name.
        NumericError: A number that is NaN or infinite.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Value, ...], ...]
    notes: tuple[str, ...] = ()
    """Notes that a reader needs; printed under the table."""

    def __post_init__(self) -> None:
        """Refuse a table that some format could not write."""
        names = [column.name for column in self.columns]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ResultError(f"table {self.title!r}: two columns are named {twice}")
        for number, row in enumerate(self.rows, start=1):
            if len(row) != len(self.columns):
                raise ResultError(
                    f"table {self.title!r}, row {number}: {len(row)} values for "
                    f"{len(self.columns)} columns"
                )
            for column, value in zip(self.columns, row, strict=True):
                if value is not None:
                    self._check(column, value, number)

    def _repr_html_(self) -> str:
        from statebridge.tables.formats import to_html  # noqa: PLC0415 - it imports this file

        return to_html(self, title=True)

    @property
    def printed(self) -> Table:
        """The table without the columns that only programs read."""
        kept = [index for index, column in enumerate(self.columns) if column.printed]
        return Table(
            self.title,
            tuple(self.columns[index] for index in kept),
            tuple(tuple(row[index] for index in kept) for row in self.rows),
            self.notes,
        )

    def _check(self, column: Column, value: Value, number: int) -> None:
        where = f"table {self.title!r}, row {number}, column {column.name}"
        fits = isinstance(value, _TYPES[column.kind])
        if not fits or (isinstance(value, bool) and column.kind != "boolean"):
            raise ResultError(f"{where}: {value!r} is not of the kind {column.kind}")
        if column.kind == "integer" and isinstance(value, int) and abs(value) >= 2**63:
            raise ResultError(f"{where}: {value} does not fit in 64 bits")
        numbers = value if isinstance(value, tuple) else (value,)
        for part in numbers:
            if isinstance(part, float) and not math.isfinite(part):
                raise NumericError(f"{where}: {value} is not finite; leave it empty (None)")


ABSENT = "–"
MINUS = "−"


_MOST_DIGITS = 9


def digits_that_differ(low: float, high: float, digits: int) -> int:
    """Return how many decimal places, at least `digits`, an interval needs to be read right.

    Its ends differ in print if they differ, and are not zero if they lie on one side of zero:
    [0.0000, 0.0000] would say that they are equal, and [0.0000, 0.0300] that zero is inside. The
    number is above `_MOST_DIGITS` where that is not enough.
    """
    nearest = min(abs(low), abs(high)) if low * high > 0 else math.inf

    def read_right(places: int) -> bool:
        differ = low == high or round(low, places) != round(high, places)
        return differ and round(nearest, places) != 0 if math.isfinite(nearest) else differ

    while digits <= _MOST_DIGITS and not read_right(digits):
        digits += 1
    return digits


def printed_value(column: Column, value: Value) -> str:
    """Return a value of a column as text."""
    if isinstance(value, Spread):
        mean = _printed_number(column, value.mean)
        return mean if value.sd is None else f"{mean} ± {value.sd:.{column.digits}f}"
    if isinstance(value, Range):
        return _printed_range(column, value)
    if value is None or isinstance(value, str):
        return ABSENT if value is None else value
    if isinstance(value, bool):
        return "yes" if value else "no"
    if column.kind == "integer":
        return f"{value:,}".replace("-", MINUS)
    return _printed_number(column, value)


def _printed_range(column: Column, value: Range) -> str:
    digits = digits_that_differ(value.low, value.high, column.digits)
    if digits > _MOST_DIGITS:
        return f"[{value.low:.1e}, {value.high:.1e}]".replace("-", MINUS)
    finer = replace(column, digits=digits)
    return f"[{_printed_number(finer, value.low)}, {_printed_number(finer, value.high)}]"


def _printed_number(column: Column, value: float) -> str:
    if column.format == "p_value" and 0 < abs(value) < 0.0001:
        return f"{value:.1e}".replace("-", MINUS)
    sign = "+" if column.format == "signed" else ""
    text = f"{value:{sign}.{column.digits}f}"
    if not text.strip("+-0."):  # a sign before nothing but zeros says more than is known
        return text.lstrip("+-")
    return text.replace("-", MINUS)
