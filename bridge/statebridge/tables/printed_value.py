"""Values as readers see them: fixed digits, true minus signs, an en dash for nothing."""

from __future__ import annotations

from statebridge.tables.table import Column, Range, Spread, Value

ABSENT = "–"
MINUS = "−"


def printed_value(column: Column, value: Value) -> str:
    """Return a value of a column as text."""
    if isinstance(value, Spread):
        mean = _number(column, value.mean)
        return mean if value.sd is None else f"{mean} ± {value.sd:.{column.digits}f}"
    if isinstance(value, Range):
        return f"[{_number(column, value.low)}, {_number(column, value.high)}]"
    if value is None or isinstance(value, str):
        return ABSENT if value is None else value
    if isinstance(value, bool):
        return "yes" if value else "no"
    if column.kind == "integer":
        return f"{value:,}".replace("-", MINUS)
    return _number(column, value)


def _number(column: Column, value: float) -> str:
    if column.format == "p_value" and 0 < abs(value) < 0.0001:
        return f"{value:.1e}".replace("-", MINUS)
    sign = "+" if column.format == "signed" else ""
    text = f"{value:{sign}.{column.digits}f}"
    if not text.strip("+-0."):  # a sign before nothing but zeros says more than is known
        return text.lstrip("+-")
    return text.replace("-", MINUS)
