"""Accuracy against cost: what each way of telling buys."""

from __future__ import annotations

from statebridge.figures.drawing import Drawing, absent
from statebridge.figures.style import house_style, literal, new_figure, series_styles
from statebridge.figures.wording import metric_label
from statebridge.results.cost import Way
from statebridge.stats.method_scores import MethodScores

_NAME, _TITLE = "accuracy_against_cost", "Accuracy against cost"
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
        return absent(_NAME, _TITLE, scores)
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
        f"cache, and exactly, with one. {extent}; whiskers: 95 % Wilson intervals over rows."
    )
    return Drawing(_NAME, _TITLE, caption, figure)
