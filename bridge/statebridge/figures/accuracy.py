"""Accuracy: containment by condition (the main result of arXiv 2606.03280), and against cost."""

from __future__ import annotations

from typing import Any

import numpy as np

from statebridge.figures.drawing import Drawing, absent
from statebridge.figures.style import (
    BLACK,
    BLUE,
    SKY,
    house_style,
    label_rows,
    literal,
    new_figure,
    number_beside,
    series_styles,
)
from statebridge.figures.wording import extent, metric_label
from statebridge.records import ResultSet
from statebridge.results.by_condition import ConditionCells, condition_cells
from statebridge.results.cost import Way
from statebridge.scoring import row_values
from statebridge.stats.method_scores import MethodScores

_CONTAINMENT = "containment", "Containment by condition"
_METRICS = ("word_boundary_contains", "legacy_contains")
_LOOKS = ((BLUE, "", 0.38), (SKY, "////", 0.38))


def containment(results: ResultSet) -> Drawing:
    """Draw word-boundary containment and legacy contains, mean over seeds, by condition."""
    groups = [g for g in condition_cells(results) if _means(g, _METRICS[0])]
    if not groups:
        return absent(*_CONTAINMENT, "no row has a prediction, so there is no text to score")
    with house_style():
        figure = new_figure(1.1 + 0.42 * len(groups))
        axes = figure.subplots()
        longest = 0.0
        for place, metric in enumerate(_METRICS):
            colour, hatch, height = _LOOKS[place]
            rows = np.arange(len(groups)) + (place - 0.5) * height
            means = [_means(group, metric) for group in groups]
            heights = [float(np.mean(values)) for values in means]
            axes.barh(
                rows,
                heights,
                height,
                color=colour,
                hatch=hatch,
                edgecolor=BLACK,
                linewidth=0.5,
                label=metric_label(metric),
            )
            for row, mean, values in zip(rows, heights, means, strict=True):
                end = mean
                if len(values) > 1:
                    sd = float(np.std(values, ddof=1))
                    axes.errorbar(mean, row, xerr=sd, color=BLACK, linewidth=0.9)
                    end = max(mean + sd, *values)
                    axes.plot(values, [row] * len(values), "o", **_SEED_DOT)
                longest = max(longest, end)
                number_beside(axes, f"{mean:.4f}", end, row, 5)
        axes.set_xlim(0, longest * 1.14 or 0.1)
        label_rows(axes, [group.label for group in groups])
        axes.set_xlabel("share of rows whose prediction contains the answer")
        axes.grid(axis="x", color="#DDDDDD", linewidth=0.6)
        figure.legend(loc="outside upper center", ncols=2)
    cells = [cell for group in groups for cell in group.cells]
    caption = (
        "Share of rows whose prediction contains the gold answer, by condition: bar, mean over "
        "seeds; whisker, ± 1 sample standard deviation over seeds; dot, one seed. "
        f"{extent(cells)}. No confidence interval is drawn here; rows are paired, so compare "
        "conditions in the figures of differences."
    )
    return Drawing(*_CONTAINMENT, caption, figure)


_SEED_DOT: dict[str, Any] = {
    "markersize": 3.2,
    "markerfacecolor": "white",
    "markeredgecolor": BLACK,
    "markeredgewidth": 0.6,
    "linestyle": "none",
    "zorder": 4,
}


def _means(group: ConditionCells, metric: str) -> list[float]:
    """One mean for each of the condition's runs that has values."""
    columns = [row_values(cell, metric) for cell in group.cells]
    return [float(np.mean(list(column.values()))) for column in columns if column]


_COST = "accuracy_against_cost", "Accuracy against cost"
_PANELS: tuple[tuple[Way, str], ...] = (
    (("published", False), "published count, no cache"),
    (("exact", True), "exact count, key-value cache"),
)


def accuracy_against_cost(scores: MethodScores | str) -> Drawing:
    """Draw the share of right rows over the operations per row, one panel a way of counting.

    Args:
        scores: Costs and shares, or the reason why there are none.
    """
    if isinstance(scores, str):
        return absent(*_COST, scores)
    styles = series_styles(method.cost.condition for method in scores.methods)
    with house_style():
        figure = new_figure(3.4)
        panels = figure.subplots(1, len(_PANELS), sharey=True)
        for axes, (way, title) in zip(panels, _PANELS, strict=True):
            for method in scores.methods:
                style = styles[method.cost.condition]
                axes.errorbar(
                    method.cost.total(way),
                    method.share,
                    yerr=[[method.share - method.low], [method.high - method.share]],
                    color=style.colour,
                    marker=style.marker,
                    markersize=5,
                    linewidth=0.9,
                    linestyle="none",
                    label=literal(method.cost.condition),
                )
            axes.set_xscale("log")
            axes.set_ylim(-0.03, 1.03)
            axes.set_xlabel("operations per row")
            axes.set_title(title)
            axes.grid(color="#DDDDDD", linewidth=0.6)
        panels[0].set_ylabel(metric_label(scores.measure))
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=4)
    rows = sorted({method.rows for method in scores.methods})
    extent = f"{rows[0]} rows" if len(rows) == 1 else f"{rows[0]} to {rows[-1]} rows"
    caption = (
        "Share of rows that are right over the operations of both models per row, on a "
        "logarithmic scale, counted in two ways: as arXiv 2501.14082 counts, without a key-value "
        f"cache, and exactly, with one. {extent}; whiskers: 95 % mid-P intervals over rows."
    )
    return Drawing(*_COST, caption, figure)
