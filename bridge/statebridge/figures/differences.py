"""Paired differences with their intervals: by baseline, and all of them as a forest plot."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from statebridge.figures.drawing import Drawing, absent
from statebridge.figures.style import (
    BLACK,
    BLUE,
    GREY,
    PALE,
    VERMILION,
    house_style,
    label_rows,
    literal,
    new_figure,
    shade_rows,
)
from statebridge.figures.wording import (
    compared_label,
    interval_kind,
    joined,
    rows_text,
    seeds_text,
    signed,
)
from statebridge.records import Direction
from statebridge.results.by_condition import reading_order, row_label
from statebridge.scoring.measures import MEASURES
from statebridge.stats import Comparison, Difference, Stratification
from statebridge.stats.comparison import better_sign, measures_change
from statebridge.stats.pairing import is_zero_one

Row = tuple[Direction, str]


def paired_delta(comparison: Comparison, metric: str = "word_boundary_contains") -> Drawing:
    """Draw one metric's differences, a panel for each baseline of the comparison."""
    name = f"paired_delta_{metric}"
    title = f"Paired difference in {compared_label(metric)} from each baseline"
    found = [d for d in comparison.differences if d.metric == metric]
    if not found:
        return absent(name, title, f"no difference in {compared_label(metric)} could be computed")
    baselines = [b for b in comparison.baselines if any(d.baseline == b for d in found)]
    rows = condition_rows(found)
    margins = comparison.settings.margins_for(metric, zero_one=is_zero_one(metric))
    with house_style():
        figure = new_figure(1.25 + 0.3 * len(rows))
        panels = figure.subplots(1, len(baselines), sharex=True, squeeze=False)[0]
        for place, (axes, baseline) in enumerate(zip(panels, baselines, strict=True)):
            _margin_band(axes, margins)
            here = [
                (d, rows.index((d.direction, d.condition))) for d in found if d.baseline == baseline
            ]
            _points(axes, here)
            for difference, y in here:
                axes.annotate(
                    signed(difference.delta),
                    (difference.delta, y),
                    xytext=(0, 5),
                    textcoords="offset points",
                    ha="center",
                    fontsize=6.8,
                    bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.8},
                )
            # Room for the numbers of the outermost points.
            axes.margins(x=0.16)
            axes.locator_params(axis="x", nbins=5)
            axes.set_title(literal(f"against {baseline}"))
            label_rows(axes, _labels(rows), ticks=place == 0)
            _zero_line(axes)
        figure.supxlabel(f"difference in {compared_label(metric)}", fontsize=8.5)
    caption = (
        f"Paired difference in {compared_label(metric)} (condition less baseline) with "
        f"{interval_kind(d.interval for d in found)}; {_extent(found)}. {_FILLED}"
        f"{_band_text(margins)}{_OWN_PROMPT if metric == 'kl_from_no_inject' else ''}"
    )
    return Drawing(name, title, caption, figure)


def forest(comparison: Comparison) -> Drawing:
    """Draw every difference of a comparison, and each seed's: rows conditions, columns metrics."""
    name, title = "forest", "All differences with their intervals"
    if not comparison.differences:
        return absent(name, title, "the comparison holds no difference")
    lines = _forest_lines(comparison)
    metrics = [m for m in comparison.metrics if any(d.metric == m for d in comparison.differences)]
    across = min(len(metrics), _METRICS_ACROSS)
    down = math.ceil(len(metrics) / across)
    with house_style():
        figure = new_figure(0.9 + down * (0.6 + 0.3 * len(lines)))
        panels = figure.subplots(down, across, squeeze=False)
        for place, axes in enumerate(panels.flat):
            if place >= len(metrics):
                axes.set_axis_off()
                continue
            shade_rows(axes, len(lines))
            found: list[tuple[Difference, float]] = []
            for y, (baseline, row) in enumerate(lines):
                if row is None:
                    axes.axhline(y - 0.5, color=BLACK, linewidth=0.8)
                    continue
                difference = comparison.difference(row[1], baseline, metrics[place], row[0])
                if difference is not None:
                    found.append((difference, y))
            _seeds(axes, found)
            _points(axes, found, size=5.5)
            axes.set_title(_broken(compared_label(metrics[place])), fontsize=8)
            label_rows(axes, _line_labels(lines), ticks=place % across == 0)
            for label, (_, row) in zip(axes.get_yticklabels(), lines, strict=True):
                label.set_fontweight("bold" if row is None else "normal")
            _zero_line(axes)
            axes.locator_params(axis="x", nbins=4)
            axes.tick_params(axis="x", labelsize=7)
        figure.supxlabel("condition less baseline, in the units of the metric", fontsize=8.5)
    caption = (
        "Every paired difference (condition less baseline): large marker, over all seeds; small "
        f"dot, one seed. With {interval_kind(d.interval for d in comparison.differences)}; "
        f"{_extent(comparison.differences)}. {_FILLED}The panels have scales of their own."
    )
    return Drawing(name, title, caption, figure)


_FILLED = (
    "A filled diamond: shown to differ, after Holm's correction where there is one (in the "
    "published mode: the interval excludes zero); an open circle: not shown. Blue: better; "
    "vermilion: worse. Each interval is of one condition alone. "
)
_OWN_PROMPT = (
    "Against the baseline that KL is measured from, it is never below zero and is not tested."
)
_METRICS_ACROSS = 3


def condition_rows(differences: Sequence[Difference | Stratification]) -> list[Row]:
    """Return the (direction, condition) pairs of some differences, in reading order."""
    directions = sorted({d.direction for d in differences})
    order = reading_order(d.condition for d in differences)
    there = {(d.direction, d.condition) for d in differences}
    return [(one, name) for one in directions for name in order if (one, name) in there]


def _labels(rows: Sequence[Row]) -> list[str]:
    both = len({direction for direction, _ in rows}) > 1
    return [row_label(condition, direction, both=both) for direction, condition in rows]


def _forest_lines(comparison: Comparison) -> list[tuple[str, Row | None]]:
    """The forest's lines: for each baseline a heading (None), then its conditions."""
    lines: list[tuple[str, Row | None]] = []
    for baseline in comparison.baselines:
        rows = condition_rows([d for d in comparison.differences if d.baseline == baseline])
        if rows:
            lines += [(baseline, None), *((baseline, row) for row in rows)]
    return lines


def _line_labels(lines: Sequence[tuple[str, Row | None]]) -> list[str]:
    both = len({row[0] for _, row in lines if row is not None}) > 1
    return [
        f"against {baseline}" if row is None else row_label(row[1], row[0], both=both)
        for baseline, row in lines
    ]


def _points(axes: Axes, found: Sequence[tuple[Difference, float]], *, size: float = 6.5) -> None:
    """Draw differences at their rows: all bars as one artist, and all marks of one look."""
    ends = [(d.interval.low, d.interval.high, y) for d, y in found if d.interval is not None]
    if ends:
        low, high, rows = zip(*ends, strict=True)
        axes.hlines(rows, low, high, color=BLACK, linewidth=1.3)
        axes.plot([*low, *high], [*rows, *rows], "|", color=BLACK, markersize=5)
    looks: dict[tuple[str, bool], list[tuple[float, float]]] = {}
    for difference, y in found:
        look = _colour(difference), is_clear(difference)
        looks.setdefault(look, []).append((difference.delta, y))
    for (colour, clear), places in looks.items():
        axes.plot(
            *zip(*places, strict=True),
            "D" if clear else "o",
            markersize=size,
            markerfacecolor=colour if clear else "white",
            markeredgecolor=colour if clear else BLACK,
            markeredgewidth=1.1,
            zorder=4,
        )


def _colour(difference: Difference) -> str:
    """Blue for better and vermilion for worse, whichever side that is; black for neither."""
    if MEASURES[difference.metric].better is None and not measures_change(difference.metric):
        return BLACK
    return BLUE if better_sign(difference.metric) * difference.delta >= 0 else VERMILION


def is_clear(difference: Difference) -> bool:
    """Whether a mark is filled: by the verdict, and in a mode without one by the interval."""
    if difference.p_holm is not None or difference.no_verdict_because is not None:
        return difference.is_better or difference.is_worse
    # A distance from its own baseline is never below zero, so clearing zero shows nothing.
    distance = measures_change(difference.metric) and difference.p is None
    interval = difference.interval
    return interval is not None and interval.excludes(0) and not distance


def _seeds(axes: Axes, found: Sequence[tuple[Difference, float]]) -> None:
    """Draw each seed's difference below that of all."""
    drawn = [
        (seed, y + offset)
        for difference, y in found
        if difference.runs > 1
        for seed, offset in zip(
            difference.by_seed, np.linspace(0.2, 0.42, len(difference.by_seed)), strict=True
        )
    ]
    ends = [(s.interval.low, s.interval.high, y) for s, y in drawn if s.interval is not None]
    if ends:
        low, high, rows = zip(*ends, strict=True)
        axes.hlines(rows, low, high, color=GREY, linewidth=0.7)
    if drawn:
        places = [(seed.delta, y) for seed, y in drawn]
        axes.plot(*zip(*places, strict=True), "o", markersize=2.2, color=GREY, zorder=3)


def _zero_line(axes: Axes) -> None:
    axes.axvline(0, color=BLACK, linewidth=0.9, zorder=1)
    axes.grid(axis="x", color="#DDDDDD", linewidth=0.6)


def _margin_band(axes: Axes, margins: Sequence[float]) -> None:
    for margin in sorted(margins, reverse=True):
        axes.axvspan(-margin, margin, color=PALE, zorder=0, linewidth=0, alpha=0.65)
        for edge in (-margin, margin):
            axes.axvline(edge, color=GREY, linewidth=0.5, linestyle=(0, (2, 2)), zorder=1)


def _band_text(margins: Sequence[float]) -> str:
    if not margins:
        return ""
    edges = joined([f"±{margin:g}" for margin in sorted(margins)])
    return f"Shaded: the declared equivalence margins, {edges}."


def _extent(differences: Sequence[Difference]) -> str:
    rows = rows_text(d.n_rows for d in differences)
    return f"{rows}; {seeds_text(seed for d in differences for seed in d.seeds)}"


def _broken(label: str) -> str:
    words = label.split(" ")
    half = (len(words) + 1) // 2
    return " ".join(words[:half]) + ("\n" + " ".join(words[half:]) if len(words) > half else "")
