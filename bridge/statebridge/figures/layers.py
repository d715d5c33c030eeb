"""Maps over sender and receiver layers: effects, the choice of a pair of layers, similarity."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle

from statebridge.errors import ResultError
from statebridge.figures.drawing import Drawing, absent
from statebridge.figures.style import (
    VERMILION,
    WIDTH,
    house_style,
    literal,
    new_figure,
)
from statebridge.figures.wording import metric_label, plain, rows_text, seeds_text, signed
from statebridge.records import CellResult, Direction, ResultSet
from statebridge.results.by_condition import reading_order, row_label
from statebridge.results.layer_search import Layers
from statebridge.results.layer_similarity import SimilarityMap
from statebridge.stats.comparison import better_sign
from statebridge.stats.held_out_choice import CellMeans, HeldOutChoice
from statebridge.stats.pairing import PairedCondition, Pairing
from statebridge.tables.summary_tables import similarity_notes

_NUMBERED = 12
"""Up to so many layers a side, each square has its number written in it."""
_PANELS = 6


def layer_map(
    runs: Sequence[ResultSet],
    metric: str = "word_boundary_contains",
    baseline: str = "no_inject",
) -> Drawing:
    """Draw each condition's difference from the baseline over sender and receiver layers.

    Args:
        runs: Result sets over the same rows that differ in the layers of their pair.
        metric: What is compared.
        baseline: A condition of every run.
    """
    name = f"layer_map_{metric}"
    title = f"Effect over sender and receiver layers, by {metric_label(metric)}"
    found = _differences(runs, metric, baseline)
    varied = {key: places for key, places in found.items() if len(places) > 1}
    if not varied:
        return absent(
            name,
            title,
            "the results are of one sender layer and one receiver layer; give runs of more layers",
        )
    order = reading_order(condition for _, condition in varied)
    keys = sorted(varied, key=lambda key: (key[0], order.index(key[1])))
    shown, both = keys[:_PANELS], len({direction for direction, _ in keys}) > 1
    across = min(len(shown), 3 if len(shown) != 4 else 2)
    down = math.ceil(len(shown) / across)
    limit = max(abs(p.by_row.deltas.mean()) for key in shown for p in varied[key].values())
    with house_style():
        figure = new_figure(0.6 + 2.4 * down, width=WIDTH if across > 1 else 4.4)
        panels = list(figure.subplots(down, across, squeeze=False).flat)
        images = []
        sign = better_sign(metric)
        for axes, key in zip(panels, shown, strict=False):
            values = {place: float(p.by_row.deltas.mean()) for place, p in varied[key].items()}
            images.append(layer_panel(axes, values, float(limit) or 1e-9, sign=sign))
            axes.set_title(literal(row_label(key[1], key[0], both=both)), fontsize=8)
        for axes in panels[len(shown) :]:
            axes.set_axis_off()
        figure.colorbar(images[0], ax=figure.axes, label="difference", shrink=0.8)
        figure.supxlabel("receiver layer", fontsize=8.5)
        figure.supylabel("sender layer", fontsize=8.5)
    every = [paired for key in shown for paired in varied[key].values()]
    caption = (
        f"Difference in {metric_label(metric)} from {baseline} by the layer that is read (sender) "
        f"and written (receiver), counted from 0. {rows_text(len(p.by_row.row_ids) for p in every)}"
        f"; {seeds_text(run.seed for p in every for run in p.runs)}. Darker is worse; a square "
        "better than zero holds a sign or a dot. No interval is drawn; a map of many squares shows "
        "its highest one by chance."
    )
    if len(keys) > len(shown):
        caption += f" Not shown: {', '.join(condition for _, condition in keys[len(shown) :])}."
    return Drawing(name, title, caption, figure)


def layers_of(cell: CellResult) -> Layers | None:
    """Return the sender's and the receiver's layer of a cell, where it records both."""
    sender, receiver = (_layer(cell.models, side) for side in ("sender", "receiver"))
    return None if sender is None or receiver is None else (sender, receiver)


def _layer(models: Mapping[str, object], side: str) -> int | None:
    block = models.get(side)
    if isinstance(block, Mapping):
        layer = block.get("layer")
        return layer if isinstance(layer, int) else None
    # A published file names the module: gpt_neox.layers.16.
    path = models.get("layer_a" if side == "sender" else "layer_b")
    ending = re.search(r"\.(\d+)$", path) if isinstance(path, str) else None
    return int(ending[1]) if ending else None


def _differences(
    runs: Sequence[ResultSet], metric: str, baseline: str
) -> dict[tuple[Direction, str], dict[Layers, PairedCondition]]:
    found: dict[tuple[Direction, str], dict[Layers, PairedCondition]] = {}
    for results in runs:
        rows = ResultSet([cell for cell in results.cells if cell.lanes])
        pairing = Pairing(rows)
        for direction in pairing.directions:
            if not pairing.cells(direction, baseline):
                continue
            for condition in pairing.conditions(direction):
                places = {layers_of(cell) for cell in pairing.cells(direction, condition)}
                place = places.pop()
                if condition == baseline or place is None or places:
                    continue
                try:
                    paired = pairing.pair(direction, condition, baseline, metric)
                except ResultError:  # no value of the metric in this run
                    continue
                found.setdefault((direction, condition), {})[place] = paired
    return found


def layer_panel(
    axes: Axes,
    values: Mapping[Layers, float],
    limit: float,
    marked: Layers | None = None,
    *,
    sign: int = 1,
    most_numbers: int = _NUMBERED,
) -> AxesImage:
    """Draw differences over sender and receiver layers, from -limit to limit; lighter is better.

    `sign` is -1 for a metric of which a lower value is better.
    Up to `most_numbers` layers a side, the squares hold their numbers; the `marked` one has a
    frame.
    """
    senders, receivers = _sides(values)
    numbered = max(len(senders), len(receivers)) <= most_numbers
    image = _squares(axes, values, (-limit, limit), reverse=sign < 0)
    for (sender, receiver), value in values.items():
        place = receivers.index(receiver), senders.index(sender)
        if numbered:
            _number(axes, *place, signed(value, 2), dark=sign * value <= 0.1 * limit)
        elif sign * value > 0:
            axes.plot(*place, ".", color="black", markersize=3)
    if marked is not None:
        corner = receivers.index(marked[1]) - 0.5, senders.index(marked[0]) - 0.5
        frame = Rectangle(corner, 1, 1, fill=False, edgecolor=VERMILION, linewidth=2.2, zorder=5)
        frame.set_clip_on(False)
        axes.add_patch(frame)
    return image


def _sides(values: Mapping[Layers, float]) -> tuple[list[int], list[int]]:
    """The sender's layers and the receiver's, ascending."""
    return sorted({sender for sender, _ in values}), sorted({receiver for _, receiver in values})


def _squares(
    axes: Axes,
    values: Mapping[Layers, float],
    limits: tuple[float, float],
    *,
    reverse: bool = False,
) -> AxesImage:
    """Draw values over layers as coloured squares, the sender's layers from top to bottom."""
    senders, receivers = _sides(values)
    grid = np.full((len(senders), len(receivers)), np.nan)
    for (sender, receiver), value in values.items():
        grid[senders.index(sender), receivers.index(receiver)] = value
    # Lightness rises with what is better, so that the map reads in grey print.
    colours = matplotlib.colormaps["cividis_r" if reverse else "cividis"]
    image = axes.imshow(grid, cmap=colours, vmin=limits[0], vmax=limits[1], aspect="auto")
    axes.set_xticks(range(len(receivers)), [str(layer) for layer in receivers])
    axes.set_yticks(range(len(senders)), [str(layer) for layer in senders])
    axes.tick_params(length=0, labelsize=7)
    return image


def _number(axes: Axes, column: int, row: int, text: str, *, dark: bool) -> None:
    """Write a number into a square, in white where the square is dark."""
    ink = "white" if dark else "black"
    axes.text(column, row, text, ha="center", va="center", color=ink, fontsize=6.5)


_CHOICE_CONDITIONS = 4
_NUMBERED_HALF = 8
"""More numbers a side do not fit beside each other where two panels share the width."""
_CHOICE_SQUARE = 0.3
"""Inches that a layer's square is high, if there is room."""


def layer_choice(choice: HeldOutChoice, floor: str) -> Drawing:
    """Draw each condition's mean less the floor's over layers, on either part of the rows.

    Args:
        choice: What was chosen among.
        floor: The condition that writes nothing; it has one mean at every pair of layers.
    """
    metric = choice.on_choosing.metric
    chosen = choice.on_choosing.chosen
    by_cell = {(c.sender_layer, c.receiver_layer, c.condition): c for c in choice.cells}
    names = list(dict.fromkeys(cell.condition for cell in choice.cells if cell.candidate))
    names.remove(chosen.condition)
    names.insert(0, chosen.condition)
    shown = names[:_CHOICE_CONDITIONS]
    maps = {
        name: [
            {
                (sender, receiver): value - base
                for (sender, receiver, condition), cell in by_cell.items()
                if condition == name
                and (value := _mean(cell, reporting=reporting)) is not None
                and (base := _mean(by_cell[sender, receiver, floor], reporting=reporting))
                is not None
            }
            for reporting in (False, True)
        ]
        for name in shown
    }
    limit = _largest(maps)
    sides = len({layers[0] for layers in maps[shown[0]][0]})
    with house_style():
        height = min(3.2, max(1.5, _CHOICE_SQUARE * sides + 0.5))
        figure = new_figure(0.7 + height * len(shown), WIDTH)
        panels = figure.subplots(len(shown), 2, squeeze=False)
        for (left, right), name in zip(panels, shown, strict=True):
            for axes, values, rows in (
                (left, maps[name][0], f"chosen on ({len(choice.split.choosing)} rows)"),
                (right, maps[name][1], f"reported on ({len(choice.split.reporting)} rows)"),
            ):
                marked = chosen.layers if name == chosen.condition else None
                image = layer_panel(axes, values, limit, marked, most_numbers=_NUMBERED_HALF)
                axes.set_title(f"{literal(name)}, {rows}", fontsize=8)
        figure.colorbar(image, ax=figure.axes, label="difference", shrink=0.8)
        figure.supxlabel("receiver layer", fontsize=8.5)
        figure.supylabel("sender layer", fontsize=8.5)
    caption = (
        f"Mean {metric_label(metric)} less that of {floor}, by the layer that is read (sender) "
        f"and written (receiver), counted from 0. On the left the {len(choice.split.choosing)} "
        f"rows that the framed square was chosen on, on the right the "
        f"{len(choice.split.reporting)} others, on which it is reported: the highest square on "
        "the right would be a choice of its own. Darker is lower; a square above zero holds a sign "
        "or a dot; no interval is drawn."
    )
    if len(names) > len(shown):
        caption += f" Not shown: {', '.join(names[len(shown) :])}."
    return Drawing(f"layer_choice_{metric}", "Choice of the layers", caption, figure)


def _mean(cell: CellMeans, *, reporting: bool) -> float | None:
    return cell.reporting_mean if reporting else cell.choosing_mean


def _largest(maps: Mapping[str, list[dict[Layers, float]]]) -> float:
    every = [abs(value) for pair in maps.values() for values in pair for value in values.values()]
    return max(every, default=0.0) or 1e-9


Measure = Literal["cka", "neighbour_overlap"]

_SIMILARITY_TITLES: dict[Measure, str] = {
    "cka": "Linear CKA over sender and receiver layers",
    "neighbour_overlap": "Nearest neighbours shared, over sender and receiver layers",
}
_SQUARE = 0.42


def similarity_map(found: SimilarityMap, measure: Measure = "cka") -> Drawing:
    """Draw a measure of similarity, from 0 to 1, for each sender and receiver layer."""
    values = {(p.sender_layer, p.receiver_layer): getattr(p, measure) for p in found.pairs}
    senders, receivers = _sides(values)
    numbered = max(len(senders), len(receivers)) <= _NUMBERED
    side = _SQUARE if numbered else 0.2
    width, height = (max(len(layers), 4) * side for layers in (receivers, senders))
    title = _SIMILARITY_TITLES[measure]
    with house_style():
        figure = new_figure(height + 0.9, width + 1.6)
        axes = figure.subplots()
        image = _squares(axes, values, (0, 1))
        axes.set_xlabel("receiver layer")
        axes.set_ylabel("sender layer")
        figure.colorbar(image, ax=axes, shrink=0.9)
        for (sender, receiver), value in values.items() if numbered else ():
            place = receivers.index(receiver), senders.index(sender)
            _number(axes, *place, plain(value, 2), dark=value <= 0.5)
    caption = (
        f"{title}: {found.sender} (sender) and {found.receiver} (receiver), layers "
        f"counted from 0. {' '.join(similarity_notes(found))} No interval is drawn."
    )
    return Drawing(f"similarity_{measure}", title, caption, figure)
