"""The choice of a layer: the map that it was made on beside the one that it is reported on."""

from __future__ import annotations

from collections.abc import Mapping

from statebridge.figures.drawing import Drawing
from statebridge.figures.layers import layer_panel
from statebridge.figures.style import WIDTH, house_style, literal, new_figure
from statebridge.figures.wording import metric_label
from statebridge.results.layer_search import Layers
from statebridge.stats.held_out_choice import CellMeans, HeldOutChoice

_CONDITIONS = 4
_NUMBERED = 8
"""More numbers a side do not fit beside each other where two panels share the width."""
_SQUARE = 0.3
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
    shown = names[:_CONDITIONS]
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
        height = min(3.2, max(1.5, _SQUARE * sides + 0.5))
        figure = new_figure(0.7 + height * len(shown), WIDTH)
        panels = figure.subplots(len(shown), 2, squeeze=False)
        for (left, right), name in zip(panels, shown, strict=True):
            for axes, values, rows in (
                (left, maps[name][0], f"chosen on ({len(choice.split.choosing)} rows)"),
                (right, maps[name][1], f"reported on ({len(choice.split.reporting)} rows)"),
            ):
                marked = chosen.layers if name == chosen.condition else None
                image = layer_panel(axes, values, limit, marked, most_numbers=_NUMBERED)
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
