"""A comparison in a notebook: its differences in short, in the order of the comparison."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from statebridge.stats.comparison import Difference, Interval

_HEADS = ("condition", "baseline", "metric", "rows", "difference", "interval", "verdict")
_NOTE = (
    "Condition less baseline, paired by row: the mean of a metric from 0 to 1, the median row of "
    "others. The verdict is corrected by Holm over the conditions. "
    "<code>statebridge.tables.comparison_table(comparison)</code> has every column."
)


def differences_html(differences: Sequence[Difference]) -> str:
    """Return differences as an HTML table."""
    head = "".join(f"<th>{name}</th>" for name in _HEADS)
    rows = "".join(_row(difference) for difference in differences)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table><div>{_NOTE}</div>"


def _row(difference: Difference) -> str:
    words = (difference.condition, difference.baseline, difference.metric)
    numbers = (
        f"{difference.n_rows:,}",
        _signed(difference.delta),
        _interval(difference.interval),
    )
    verdict = (difference.verdict or "none").replace("_", " ")
    cells = [f'<td style="text-align:left">{escape(text)}</td>' for text in (*words,)]
    cells += [f"<td>{text}</td>" for text in numbers]
    cells.append(f'<td style="text-align:left">{escape(verdict)}</td>')
    return f"<tr>{''.join(cells)}</tr>"


def _interval(interval: Interval | None) -> str:
    return "–" if interval is None else f"[{_signed(interval.low)}, {_signed(interval.high)}]"


def _signed(value: float) -> str:
    return f"{value:+.4f}".replace("-", "−")
