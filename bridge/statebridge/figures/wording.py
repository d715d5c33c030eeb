"""Words for captions: what a metric is called, over what, and what an interval is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from statebridge.records import CellResult
from statebridge.scoring.measures import MEASURES
from statebridge.stats import Interval
from statebridge.tables import Column, Range
from statebridge.tables.comparison_table import METHOD_NAMES
from statebridge.tables.summary_tables import HEADERS
from statebridge.tables.table import ABSENT, printed_value

METRIC_LABELS = {
    **HEADERS,
    "word_boundary_contains": "word-boundary containment",
    "normalized_exact_match": "normalised exact match",
    "prediction_changed": "share of texts changed",
}
"""As in tables; a few need another word where they do not head a column."""


def metric_label(metric: str) -> str:
    """Return what a metric is called in a figure or a report."""
    return METRIC_LABELS.get(metric, metric.replace("_", " "))


def compared_label(metric: str) -> str:
    """Return what a metric is called where its differences are shown: ranks are logarithms."""
    return f"log {metric_label(metric)}" if metric == "gold_rank" else metric_label(metric)


def signed(value: float, digits: int = 4) -> str:
    """Return a difference with its sign: +0.0042, −0.0859, 0.0000."""
    return printed_value(Column("delta", "", "number", "signed", digits), value)


def plain(value: float, digits: int = 4) -> str:
    """Return a number with a true minus sign."""
    return printed_value(Column("value", "", "number", digits=digits), value)


def percent(share: float, digits: int = 0) -> str:
    """Return a share in per cent, with a true minus sign and none before zero: `−4 %`, `0 %`."""
    return f"{plain(100 * share, digits)} %"


def value_text(metric: str, value: float) -> str:
    """Return a mean as a reader takes it in at once: a share in per cent, a number to 2 digits."""
    return percent(value) if MEASURES[metric].kind != "number" else plain(value, 2)


def interval_text(interval: Interval | None, digits: int = 4) -> str:
    """Return an interval of differences as `[−0.0086, +0.0177]`; a dash for none.

    A narrow one has as many digits as its two ends need to differ in print.
    """
    if interval is None:
        return ABSENT
    return printed_value(Column("interval", "", "range", "signed", digits), Range.of(interval))


def interval_kind(intervals: Iterable[Interval | None]) -> str:
    """Describe what the intervals of a figure or table hold for and how they were made."""
    there = [interval for interval in intervals if interval is not None]
    if not there:
        return "no interval"
    levels = sorted({interval.level for interval in there})
    methods = dict.fromkeys(interval.method for interval in there)
    ordered = sorted(methods, key=list(METHOD_NAMES).index)
    level = " and ".join(f"{level:.4g}" for level in (100 * level for level in levels))
    scopes = " or ".join(dict.fromkeys(interval.scope for interval in there))
    names = "; ".join(METHOD_NAMES[method] for method in ordered)
    return f"{level} % intervals for {scopes} ({names})"


def extent(cells: Sequence[CellResult]) -> str:
    """Say over how many rows and seeds something is: `n = 396 rows; seeds 42, 123, 456`."""
    sizes = sorted({len(cell.lanes) for cell in cells}, reverse=True)
    seeds = sorted({cell.seed for cell in cells if cell.seed is not None})
    return f"{rows_text(sizes)}; {seeds_text(seeds)}"


def rows_text(sizes: Iterable[int]) -> str:
    """Return `n = 396 rows`, or a range where conditions hold differently many."""
    distinct = sorted(set(sizes))
    if not distinct:
        return "n = 0 rows"
    if len(distinct) == 1:
        return f"n = {distinct[0]} row{'' if distinct[0] == 1 else 's'}"
    return f"n = {distinct[0]} to {distinct[-1]} rows"


def seeds_text(seeds: Iterable[int | None]) -> str:
    """Return `seeds 42, 123, 456`, `one seed (42)` or `no seeded condition`."""
    known = sorted({seed for seed in seeds if seed is not None})
    if not known:
        return "no seeded condition"
    if len(known) == 1:
        return f"one seed ({known[0]})"
    return f"seeds {', '.join(str(seed) for seed in known)}"


def joined(words: Sequence[str], last: str = "and") -> str:
    """Return words as `a, b and c`."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} {last} {words[-1]}"
