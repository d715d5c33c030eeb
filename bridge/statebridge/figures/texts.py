"""Generated texts: what disagreements of the metrics are, and how long texts stay the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from statebridge.audit import LABELS, RULES, AuditReport, Label
from statebridge.figures.drawing import Drawing, absent
from statebridge.figures.style import (
    BLACK,
    BLUE,
    SKY,
    YELLOW,
    house_style,
    label_rows,
    literal,
    new_figure,
    number_beside,
    series_styles,
)
from statebridge.figures.wording import extent, rows_text, seeds_text
from statebridge.records import ResultSet
from statebridge.results.by_condition import ConditionCells, condition_cells, reading_order

_NAME, _TITLE = "audit_labels", "What disagreements between metrics are"
_LOOKS: dict[Label, tuple[str, str]] = {
    "verbose_correct": (BLUE, ""),
    "substring_noise": (SKY, "////"),
    "accidental_mention": (YELLOW, "...."),
}


def audit_labels(report: AuditReport) -> Drawing:
    """Draw the labels of rows where legacy contains holds and normalised exact does not."""
    total = sum(sum(cell.disagreements.values()) for cell in report.cells)
    if not total:
        return absent(_NAME, _TITLE, "the metrics disagree in no row of the audited conditions")
    conditions = reading_order(cell.condition for cell in report.cells)
    everything = {
        name: {
            label: sum(c.disagreements[label] for c in report.cells if c.condition == name)
            for label in LABELS
        }
        for name in conditions
    }
    panels = [("all disagreements", everything)]
    if report.per_cell is not None:
        panels.insert(0, (f"at most {report.per_cell} rows a run", report.counts_by_condition))
    with house_style():
        figure = new_figure(1.2 + 0.34 * len(conditions))
        axes = figure.subplots(1, len(panels), squeeze=False)[0]
        for place, (title, counts) in enumerate(panels):
            _stack(axes[place], conditions, counts)
            axes[place].set_title(title)
            axes[place].set_xlabel("rows, over all seeds")
            label_rows(axes[place], conditions, ticks=place == 0)
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=len(LABELS))
    caption = (
        "Rows where legacy contains holds and normalised exact match does not, by where the text "
        "has the answer (an automatic rule, which cannot know whether a sentence answers) and "
        f"condition: {total} in all, {len(report.rows)} of them listed for reading. "
        f"{rows_text(cell.rows for cell in report.cells)} a run; "
        f"{seeds_text(cell.seed for cell in report.cells)}. Counts, so no interval."
    )
    if report.controls_left_out:
        caption += f" Controls are left out: {', '.join(report.controls_left_out)}."
    return Drawing(_NAME, _TITLE, caption, figure)


def _stack(axes: Axes, conditions: list[str], counts: Mapping[str, Mapping[Label, int]]) -> None:
    left = np.zeros(len(conditions))
    for label in LABELS:
        colour, hatch = _LOOKS[label]
        widths = np.array([counts[name][label] for name in conditions], dtype=np.float64)
        axes.barh(
            range(len(conditions)),
            widths,
            0.62,
            left=left,
            color=colour,
            hatch=hatch,
            edgecolor=BLACK,
            linewidth=0.5,
            label=RULES[label][0],
        )
        left = left + widths
    for row, width in enumerate(left):
        number_beside(axes, f"{width:.0f}", width, row, 4)
    axes.margins(x=0.12)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    axes.grid(axis="x", color="#DDDDDD", linewidth=0.6)


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
