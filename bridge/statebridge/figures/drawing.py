"""What a figure function returns: the figure with its caption, or why there is none."""

from __future__ import annotations

from dataclasses import dataclass

from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True)
class Drawing:
    """A figure and its caption, or the reason why the results give none."""

    name: str
    """Stem of the file it is saved under."""
    title: str
    caption: str
    """What is drawn, over how many rows and seeds, and the kind of its intervals."""
    figure: Figure | None
    reason: str | None = None
    """One line, where there is no figure."""


def absent(name: str, title: str, reason: str) -> Drawing:
    """Return the drawing that says why it is not there."""
    return Drawing(name=name, title=title, caption="", figure=None, reason=reason)
