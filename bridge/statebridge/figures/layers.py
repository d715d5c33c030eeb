"""The layer map: the effect of a condition over the layers read and written."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle

from statebridge.errors import ResultError
from statebridge.figures.drawing import Drawing, absent
from statebridge.figures.grouping import row_label
from statebridge.figures.style import (
    VERMILION,
    WIDTH,
    house_style,
    literal,
    new_figure,
    reading_order,
)
from statebridge.figures.wording import metric_label, rows_text, seeds_text, signed
from statebridge.records import CellResult, Direction, ResultSet
from statebridge.results.layer_search import Layers
from statebridge.stats.pairing import PairedCondition, Pairing

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
    name, title = f"layer_map_{metric}", "Effect over sender and receiver layers"
    found = _differences(runs, metric, baseline)
    swept = {key: places for key, places in found.items() if len(places) > 1}
    if not swept:
        return absent(
            name,
            title,
            "the results are of one sender layer and one receiver layer; give runs that sweep them",
        )
    order = reading_order(condition for _, condition in swept)
    keys = sorted(swept, key=lambda key: (key[0], order.index(key[1])))
    shown, both = keys[:_PANELS], len({direction for direction, _ in keys}) > 1
    across = min(len(shown), 3 if len(shown) != 4 else 2)
    down = math.ceil(len(shown) / across)
    limit = max(abs(p.by_row.deltas.mean()) for key in shown for p in swept[key].values())
    with house_style():
        figure = new_figure(0.6 + 2.4 * down, width=WIDTH if across > 1 else 4.4)
        panels = list(figure.subplots(down, across, squeeze=False).flat)
        images = []
        for axes, key in zip(panels, shown, strict=False):
            values = {place: float(p.by_row.deltas.mean()) for place, p in swept[key].items()}
            images.append(layer_panel(axes, values, float(limit) or 1e-9))
            axes.set_title(literal(row_label(key[1], key[0], both=both)), fontsize=8)
        for axes in panels[len(shown) :]:
            axes.set_axis_off()
        figure.colorbar(images[0], ax=figure.axes, label="difference", shrink=0.8)
        figure.supxlabel("receiver layer", fontsize=8.5)
        figure.supylabel("sender layer", fontsize=8.5)
    every = [paired for key in shown for paired in swept[key].values()]
    caption = (
        f"Difference in {metric_label(metric)} from {baseline} by the layer that is read (sender) "
        f"and written (receiver), counted from 0. {rows_text(len(p.by_row.row_ids) for p in every)}"
        f"; {seeds_text(run.seed for p in every for run in p.runs)}. Darker is lower; a square "
        "above zero holds a sign or a dot. No interval is drawn; a map of many squares shows its "
        "highest one by chance."
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
    most_numbers: int = _NUMBERED,
) -> AxesImage:
    """Draw differences over sender and receiver layers, from -limit to limit.

    Up to `most_numbers` layers a side, numbers stand in the squares; a frame around the `marked`
    one.
    """
    senders = sorted({sender for sender, _ in values})
    receivers = sorted({receiver for _, receiver in values})
    grid = np.full((len(senders), len(receivers)), np.nan)
    for (sender, receiver), difference in values.items():
        grid[senders.index(sender), receivers.index(receiver)] = difference
    # Lightness rises with the value, so that the map reads in grey print.
    image = axes.imshow(
        grid, cmap=matplotlib.colormaps["cividis"], vmin=-limit, vmax=limit, aspect="auto"
    )
    axes.set_xticks(range(len(receivers)), [str(layer) for layer in receivers])
    axes.set_yticks(range(len(senders)), [str(layer) for layer in senders])
    axes.tick_params(length=0, labelsize=7)
    numbered = max(len(senders), len(receivers)) <= most_numbers
    for row, column in np.ndindex(grid.shape):
        value = float(grid[row, column])
        if np.isnan(value):
            continue
        ink = "black" if value > 0.1 * limit else "white"
        if numbered:
            axes.text(
                column, row, signed(value, 2), ha="center", va="center", color=ink, fontsize=6.5
            )
        elif value > 0:
            axes.plot(column, row, ".", color="black", markersize=3)
    if marked is not None:
        corner = receivers.index(marked[1]) - 0.5, senders.index(marked[0]) - 0.5
        axes.add_patch(
            Rectangle(
                corner,
                1,
                1,
                fill=False,
                edgecolor=VERMILION,
                linewidth=2.2,
                clip_on=False,
                zorder=5,
            )
        )
    return image
