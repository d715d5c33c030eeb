"""Norms: how far what is injected lies from the size of what it meets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from statebridge.experiment.conditions import Condition, DeclaredCondition
from statebridge.figures.drawing import Drawing, absent
from statebridge.figures.style import (
    BLACK,
    BLUE,
    GREY,
    ORANGE,
    SKY,
    house_style,
    label_rows,
    new_figure,
    number_beside,
)
from statebridge.figures.wording import extent, seeds_text
from statebridge.records import ResultSet
from statebridge.results.by_condition import ConditionCells, condition_cells
from statebridge.tables.table import MINUS

_KINDS = (
    ("translated_norm_mean", "source state (translated, random, ...)", "o", ORANGE, "left"),
    ("receiver_norm_mean", "receiver's own state", "s", SKY, "none"),
    ("injected_norm_mean", "what was added or written", "D", BLUE, "full"),
)


def norm_mismatch(results: ResultSet) -> Drawing:
    """Draw mean norms of the source, the receiver's and the injected state on a log axis."""
    name, title = "norm_mismatch", "Norms of source, receiver and injected states"
    every = condition_cells(results)
    groups = [g for g in every if any(_norms(g, kind[0]) for kind in _KINDS)]
    if not groups:
        return absent(name, title, "no row records a norm")
    zeros = []
    with house_style():
        figure = new_figure(1.15 + 0.3 * len(groups))
        axes = figure.subplots()
        for row, group in enumerate(groups):
            axes.axhline(row, color="#DDDDDD", linewidth=0.6, zorder=0)
            for field, _, marker, colour, fill in _KINDS:
                norms = _norms(group, field)
                if field == "receiver_norm_mean":
                    norms = list(receiver_norms(group, every).values())
                mean = float(np.mean(norms)) if norms else None
                if mean:
                    axes.plot(mean, row, **_marker(marker, colour, fill))
                elif mean == 0:
                    zeros.append(group.label)
                    axes.annotate(
                        f"{'source' if field == 'translated_norm_mean' else 'injected'} 0",
                        (0.01 if field == "translated_norm_mean" else 0.12, row),
                        xycoords=("axes fraction", "data"),
                        va="center",
                        fontsize=7,
                    )
        axes.set_xscale("log")
        label_rows(axes, [group.label for group in groups])
        axes.set_xlabel("mean L2 norm (log scale)")
        axes.grid(axis="x", color="#DDDDDD", linewidth=0.6)
        for _, label, marker, colour, fill in _KINDS:
            axes.plot([], [], label=label, **_marker(marker, colour, fill))
        figure.legend(loc="outside upper center", ncols=3, handletextpad=0.3)
    caption = (
        "L2 norms of states, averaged over positions, rows and seeds, by condition. A source far "
        "left of the receiver's own state is a norm mismatch; rescaling puts what is written on "
        f"the receiver's. {_OWN} {_extent(groups)}. No interval is drawn."
    )
    if zeros:
        caption += " A norm of 0 has no place on a log axis and is written out."
    return Drawing(name, title, caption, figure)


def norm_distribution(results: ResultSet) -> Drawing:
    """Draw the distribution over rows of the injected norm relative to the receiver's own."""
    return _distribution(
        Drawing(
            "norm_distribution",
            "Injected norm relative to the receiver's, over rows",
            f"the injected state's norm over the receiver's own at the same positions: {_BOX}. The "
            f"dashed line at 1: written at the receiver's norm. {_OWN}",
            None,
            "no row records the injected norm and the receiver's own at the same positions, above "
            "zero; add a self-injection at these positions",
        ),
        results,
        lambda group: _ratios(group, condition_cells(results)),
        axis="injected norm / receiver's own norm, per row (log scale)",
        line=1,
    )


def cosine_distribution(results: ResultSet) -> Drawing:
    """Draw the distribution over rows of the cosine of the source and the receiver's state."""
    return _distribution(
        Drawing(
            "cosine_distribution",
            "Cosine of source and receiver states, over rows",
            "the cosine of the source state and the receiver's own, averaged over the positions "
            f"written: {_BOX}. States of one layer point much the same way, so compare a "
            "translation with the shuffled one, not with 0.",
            None,
            "no row records a cosine; published files do not",
        ),
        results,
        lambda group: _norms(group, "source_cosine_mean"),
        axis="cosine of source and receiver's own state, mean over positions, per row",
        line=0,
    )


_BOX = "box, quartiles; thick line and number, median; whiskers, least and greatest"


def _distribution(
    empty: Drawing,
    results: ResultSet,
    values_of: Callable[[ConditionCells], Sequence[float]],
    *,
    axis: str,
    line: int,
) -> Drawing:
    """Draw a box for each condition, beside a dashed line; `empty` where no row has a value."""
    values = [(g, found) for g in condition_cells(results) if len(found := values_of(g))]
    if not values:
        return replace(empty, caption="")
    with house_style():
        figure = new_figure(0.8 + 0.32 * len(values))
        axes = figure.subplots()
        for row, (_, found) in enumerate(values):
            _box(axes, row, found)
        axes.axvline(line, color=GREY, linewidth=0.9, linestyle=(0, (3, 2)), zorder=1)
        if line:  # a ratio
            axes.set_xscale("log")
        axes.margins(x=0.08)
        label_rows(axes, [group.label for group, _ in values])
        axes.set_xlabel(axis)
        axes.grid(axis="x", color="#E6E6E6", linewidth=0.6)
    caption = (
        f"Distribution over rows and seeds of {empty.caption} "
        f"{_extent([group for group, _ in values])}. No interval is drawn."
    )
    return Drawing(empty.name, empty.title, caption, figure)


def _box(axes: Any, row: int, values: Sequence[float] | Any) -> None:
    """Draw one row's quartiles, extremes and median."""
    low, lower, median, upper, high = np.quantile(values, [0.0, 0.25, 0.5, 0.75, 1.0])
    axes.plot([low, high], [row, row], color=BLACK, linewidth=0.9, zorder=2)
    axes.plot([low, high], [row, row], "|", color=BLACK, markersize=7)
    axes.barh(row, upper - lower, 0.5, left=lower, color=SKY, edgecolor=BLACK, zorder=3)
    axes.plot([median, median], [row - 0.25, row + 0.25], color=BLACK, linewidth=2, zorder=4)
    number_beside(axes, f"{median:.2g}".replace("-", MINUS), high, row, 6)


def translator_cosine(manifest: Mapping[str, Any] | None) -> Drawing:
    """Draw each translator's held-out mean cosine beside that of the mean vector alone."""
    name, title = "translator_cosine", "Cosine of translated and receiver states"
    reports = _quality(manifest)
    if not reports:
        return absent(
            name, title, "no translator of these results has a quality report (run manifest)"
        )
    with house_style():
        figure = new_figure(1.2 + 0.3 * len(reports))
        axes = figure.subplots()
        for row, (_, report) in enumerate(reports):
            space = report["normalised"]
            ends = [space["baseline_cosine"], space["cosine"]]
            axes.plot(ends, [row, row], color=GREY, linewidth=1)
            axes.plot(ends[0], row, "o", markerfacecolor="white", markeredgecolor=BLACK)
            axes.plot(ends[1], row, "D", color=BLUE)
            for cosine, side in ((min(ends), -1), (max(ends), 1)):
                number_beside(axes, f"{cosine:.3f}", cosine, row, 7 * side)
        axes.plot([], [], "o", markerfacecolor="white", markeredgecolor=BLACK, label="mean vector")
        axes.plot([], [], "D", color=BLUE, label="translator")
        label_rows(axes, [label for label, _ in reports])
        axes.margins(x=0.15)
        axes.set_xlabel("mean cosine with the receiver's state (normalised space)")
        axes.grid(axis="x", color="#DDDDDD", linewidth=0.6)
        figure.legend(loc="outside upper center", ncols=2)
    positions = sorted({int(report["positions"]) for _, report in reports})
    counted = " or ".join(f"{count:,}" for count in positions)
    caption = (
        "Cosine of translated and receiver states, a mean over held-out positions "
        f"(n = {counted} positions; {_quality_seeds(manifest)}), beside what the mean vector alone "
        "scores: only the distance between the two is the translator's. No interval is drawn."
    )
    return Drawing(name, title, caption, figure)


def _marker(marker: str, colour: str, fill: str) -> dict[str, Any]:
    return {
        "marker": marker,
        "markersize": 7,
        "color": colour,
        "markeredgecolor": BLACK,
        "markerfacecoloralt": "white",
        "fillstyle": fill,
        "linestyle": "none",
    }


def _norms(group: ConditionCells, field: str) -> list[float]:
    values = (getattr(row, field) for cell in group.cells for row in cell.lanes)
    return [value for value in values if value is not None]


_OWN = (
    "The receiver's own state is that of the positions written: of the self-injection there, or of "
    "the whole prompt where all of it is written."
)


def receiver_norms(group: ConditionCells, every: Sequence[ConditionCells]) -> dict[str, float]:
    """Return by row the norm of the receiver's own state at the positions that are written.

    The recorded one is over the whole prompt, whose first token often has a norm of thousands. A
    self-injection at the same positions wrote just that state, so its norm is taken; without one,
    the recorded norm serves where the whole prompt is written, and no row has a value otherwise.
    """
    declared = group.declared
    for other in every:
        same = other.direction == group.direction and _overwrites(other.declared)
        if same and _places(other.declared) == _places(declared):
            return {
                row.row_id: row.injected_norm_mean
                for row in other.cells[0].lanes
                if row.injected_norm_mean
            }
    if isinstance(declared, Condition) and declared.positions != "all":
        return {}
    return {
        row.row_id: row.receiver_norm_mean
        for cell in group.cells
        for row in cell.lanes
        if row.receiver_norm_mean
    }


def _overwrites(condition: DeclaredCondition) -> bool:
    """Whether the receiver's own state is written over itself (an `add` of weight 0 adds 0)."""
    return condition.writes_own_state and condition.source == "receiver"


def _places(condition: DeclaredCondition) -> object:
    """Prompt and positions that a condition writes; of a published file both are the same."""
    return condition.prompt, getattr(condition, "positions", "all")


def _ratios(group: ConditionCells, every: Sequence[ConditionCells]) -> list[float]:
    own = receiver_norms(group, every)
    return [
        row.injected_norm_mean / own[row.row_id]
        for cell in group.cells
        for row in cell.lanes
        if row.injected_norm_mean and row.row_id in own
    ]


def _extent(groups: Sequence[ConditionCells]) -> str:
    return extent([cell for group in groups for cell in group.cells])


def _quality(manifest: Mapping[str, Any] | None) -> list[tuple[str, Mapping[str, Any]]]:
    translators = (manifest or {}).get("translators") or {}
    return [
        (_seed_name(key) + ("" if len(entry["quality"]) == 1 else f", {place}"), report)
        for key, entry in translators.items()
        for place, report in enumerate(entry.get("quality") or [], start=1)
    ]


def _seed_name(key: str) -> str:
    """Name of a translator of the manifest: of `42`, or of `aligned/42` where there are sets."""
    of, _, seed = key.rpartition("/")
    return f"{of}, seed {seed}" if of else f"seed {seed}"


def _quality_seeds(manifest: Mapping[str, Any] | None) -> str:
    keys = (manifest or {}).get("translators", {})
    return seeds_text(int(str(key).split("/")[-1]) for key in keys)
