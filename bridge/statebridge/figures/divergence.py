"""The survival curve: for how long a text stays that of no_inject."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from statebridge.figures.drawing import Drawing, absent
from statebridge.figures.grouping import ConditionCells, condition_cells
from statebridge.figures.style import house_style, literal, new_figure, series_styles
from statebridge.figures.wording import extent
from statebridge.records import ResultSet


def divergence_survival(results: ResultSet) -> Drawing:
    """Draw the share of texts that still equal no_inject's after k new tokens."""
    name, title = "divergence_survival", "First token that differs from no_inject"
    groups = [g for g in condition_cells(results) if g.condition != "no_inject" and _firsts(g)]
    if not groups:
        return absent(
            name,
            title,
            "no row records its new tokens beside no_inject's (published files hold text only)",
        )
    longest = max(
        (len(row.token_ids or ()) for g in groups for cell in g.cells for row in cell.lanes),
        default=0,
    )
    steps = np.arange(longest + 1)
    styles = series_styles(group.condition for group in groups)
    with house_style():
        figure = new_figure(3.3)
        axes = figure.subplots()
        for place, group in enumerate(groups):
            style = styles[group.condition]
            axes.step(
                steps,
                _survival(_firsts(group), steps),
                where="post",
                color=style.colour,
                linestyle=style.dash,
                marker=style.marker,
                # Staggered, so that the markers of curves that run together can all be seen.
                markevery=(place % 8, max(longest // 6, 1)),
                markersize=4.5,
                linewidth=1.4,
                label=literal(group.label),
            )
        axes.set_ylim(-0.03, 1.03)
        axes.set_xlim(0, longest or 1)
        axes.set_xlabel("new tokens")
        axes.set_ylabel("share of texts still the same")
        axes.grid(color="#E6E6E6", linewidth=0.6)
        figure.legend(loc="outside right center")
    caption = (
        "Share of rows (over all seeds) whose first k new tokens are those of no_inject, or, where "
        "the receiver reads the question only, of question_only. The height at the right end is "
        "the share of texts that never differ. "
        f"{extent([cell for group in groups for cell in group.cells])}. No interval is drawn. "
        "Greedy text can change at a tiny perturbation: an early difference shows sensitivity, "
        "not transfer."
    )
    return Drawing(name, title, caption, figure)


def _firsts(group: ConditionCells) -> list[float]:
    """The index of the first differing token of each text; infinity for those that never do."""
    return [
        float("inf") if row.first_changed_token is None else float(row.first_changed_token)
        for cell in group.cells
        for row in cell.lanes
        if row.prediction_changed is not None
    ]


def _survival(
    firsts: Sequence[float], steps: np.ndarray[tuple[int], np.dtype[np.int_]]
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """The share whose first k tokens are the same: whose first difference is at k or later."""
    ordered = np.sort(np.asarray(firsts, dtype=np.float64))
    return 1.0 - np.searchsorted(ordered, steps, side="left") / len(ordered)
