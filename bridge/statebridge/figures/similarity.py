"""The similarity of a pair's states over sender and receiver layers."""

from __future__ import annotations

from typing import Literal

import matplotlib
import numpy as np

from statebridge.figures.drawing import Drawing
from statebridge.figures.style import house_style, new_figure
from statebridge.figures.wording import plain
from statebridge.results.layer_similarity import SimilarityMap
from statebridge.tables.similarity_table import similarity_notes

Measure = Literal["cka", "neighbour_overlap"]

_TITLES: dict[Measure, str] = {
    "cka": "Linear CKA over sender and receiver layers",
    "neighbour_overlap": "Nearest neighbours shared, over sender and receiver layers",
}
_NUMBERED = 12
"""Up to so many layers a side, each square has its number written in it."""
_SQUARE = 0.42


def similarity_map(found: SimilarityMap, measure: Measure = "cka") -> Drawing:
    """Draw a measure of similarity, from 0 to 1, for each sender and receiver layer."""
    senders = sorted({pair.sender_layer for pair in found.pairs})
    receivers = sorted({pair.receiver_layer for pair in found.pairs})
    grid = np.full((len(senders), len(receivers)), np.nan)
    for pair in found.pairs:
        place = senders.index(pair.sender_layer), receivers.index(pair.receiver_layer)
        grid[place] = getattr(pair, measure)
    numbered = max(grid.shape) <= _NUMBERED
    width, height = (max(n, 4) * (_SQUARE if numbered else 0.2) for n in grid.shape[::-1])
    with house_style():
        figure = new_figure(height + 0.9, width + 1.6)
        axes = figure.subplots()
        # Lightness rises with the value, so that the map reads in grey print.
        image = axes.imshow(
            grid, cmap=matplotlib.colormaps["cividis"], vmin=0, vmax=1, aspect="auto"
        )
        axes.set_xticks(range(len(receivers)), [str(layer) for layer in receivers])
        axes.set_yticks(range(len(senders)), [str(layer) for layer in senders])
        axes.tick_params(length=0, labelsize=7)
        axes.set_xlabel("receiver layer")
        axes.set_ylabel("sender layer")
        figure.colorbar(image, ax=axes, shrink=0.9)
        if numbered:
            for (row, column), value in np.ndenumerate(grid):
                if not np.isnan(value):
                    axes.text(
                        column,
                        row,
                        plain(float(value), 2),
                        ha="center",
                        va="center",
                        color="black" if value > 0.5 else "white",
                        fontsize=6.5,
                    )
    caption = (
        f"{_TITLES[measure]}: {found.sender} (sender) and {found.receiver} (receiver), layers "
        f"counted from 0. {' '.join(similarity_notes(found))} No interval is drawn."
    )
    return Drawing(f"similarity_{measure}", _TITLES[measure], caption, figure)
