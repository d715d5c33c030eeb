"""How figures look: colours that colour-blind readers and grey print keep apart.

The colours are those of M. Okabe and K. Ito, "Color Universal Design" (2008). No figure rests
on colour alone: a series also has its own marker, dash and hatch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from statebridge.experiment.presets import PUBLISHED

BLACK = "#000000"
BLUE = "#0072B2"
ORANGE = "#E69F00"
YELLOW = "#F0E442"
SKY = "#56B4E9"
VERMILION = "#D55E00"
GREY = "#767676"
PALE = "#E4E8EC"
WIDTH = 7.2
"""Inches: the text width of a page with usual margins."""
_LONGEST_NAME = 40

_RC = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so it is there everywhere
    "font.size": 8.5,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.labelsize": 8.5,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.axisbelow": True,
    "hatch.linewidth": 0.6,
    "errorbar.capsize": 2.5,
    "axes.formatter.use_mathtext": False,
    "axes.unicode_minus": True,
    "svg.fonttype": "path",  # the same picture on a machine without the font
    "svg.hashsalt": "statebridge",  # element ids that do not change from run to run
    "pdf.fonttype": 42,
    "savefig.dpi": 200,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}


@contextmanager
def house_style() -> Iterator[None]:
    """Draw and save under Statebridge's settings, whatever the reader's own are."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_RC)
        yield


def new_figure(height: float, width: float = WIDTH) -> Figure:
    """Return an empty figure, sizes in inches; pyplot's global state is not touched."""
    return Figure(figsize=(width, height), layout="constrained")


@dataclass(frozen=True, slots=True)
class SeriesStyle:
    """Look of one condition wherever conditions differ by their look."""

    colour: str
    marker: str
    dash: str | tuple[int, tuple[float, ...]]


_STYLES = (
    SeriesStyle(BLUE, "o", "-"),
    SeriesStyle(VERMILION, "s", (0, (5, 1.5))),
    SeriesStyle("#009E73", "^", (0, (1.2, 1.2))),
    SeriesStyle(BLACK, "D", (0, (6, 1.5, 1.2, 1.5))),
    SeriesStyle("#CC79A7", "v", "-"),
    SeriesStyle(SKY, "P", (0, (3, 1.2))),
    SeriesStyle(ORANGE, "X", (0, (8, 2))),
    SeriesStyle(GREY, "*", (0, (1, 2.2))),
    SeriesStyle("#004D80", "<", (0, (4, 1, 1, 1, 1, 1))),
    SeriesStyle("#8A3B00", ">", (0, (2, 1, 6, 1))),
)


def series_styles(conditions: Iterable[str]) -> dict[str, SeriesStyle]:
    """Return a style for each condition; a published condition has the same one everywhere."""
    published = list(PUBLISHED)
    others = [name for name in conditions if name not in PUBLISHED]
    order = dict.fromkeys(published + others)
    return {name: _style(place) for place, name in enumerate(order)}


def _style(place: int) -> SeriesStyle:
    """The style of a place; beyond the ten, a colour comes back with another marker and dash."""
    lap, first = divmod(place, len(_STYLES))
    second = _STYLES[(first + 3 * lap) % len(_STYLES)]
    return SeriesStyle(_STYLES[first].colour, second.marker, second.dash)


def literal(name: str) -> str:
    """Return a name as matplotlib shows it as it is: no mathematics, not too long to fit."""
    short = name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"
    return short.replace("$", r"\$")


def label_rows(axes: Axes, labels: list[str], *, ticks: bool = True) -> None:
    """Put one label beside each of the rows 0, 1, ..., the first one on top."""
    shown = [literal(label) if ticks else "" for label in labels]
    axes.set_yticks(range(len(labels)), shown)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)


def number_beside(axes: Axes, text: str, x: float, row: float, points: int) -> None:
    """Write a number so many points to the right of a place in a row; to the left if negative."""
    side = "left" if points > 0 else "right"
    axes.annotate(
        text,
        (x, row),
        xytext=(points, 0),
        textcoords="offset points",
        va="center",
        ha=side,
        fontsize=7,
    )


def shade_rows(axes: Axes, count: int) -> None:
    """Shade every other row, so that the eye keeps to one."""
    for row in range(0, count, 2):
        axes.axhspan(row - 0.5, row + 0.5, color="#F4F6F8", zorder=0, linewidth=0)
