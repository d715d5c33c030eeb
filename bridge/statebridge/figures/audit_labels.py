"""The audit's labels by condition: why lenient hits are not answers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from statebridge.audit import LABELS, AuditReport, Label
from statebridge.figures.drawing import Drawing, absent
from statebridge.figures.style import (
    BLACK,
    BLUE,
    SKY,
    YELLOW,
    house_style,
    label_rows,
    new_figure,
    reading_order,
)
from statebridge.figures.wording import rows_text, seeds_text

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
        "Rows where legacy contains holds and normalised exact match does not, by label and "
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
            label=label.replace("_", " "),
        )
        left = left + widths
    for row, width in enumerate(left):
        axes.annotate(
            f"{width:.0f}",
            (width, row),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=7,
        )
    axes.margins(x=0.12)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    axes.grid(axis="x", color="#DDDDDD", linewidth=0.6)
