"""The result of a figure function, and saving it: equal figures give equal bytes, on any day."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from statebridge.data.files import atomic_writer
from statebridge.errors import ResultError
from statebridge.figures.style import house_style


@dataclass(frozen=True, slots=True)
class Drawing:
    """A figure and its caption, or the reason why the results give none."""

    name: str
    """Stem of the file it is saved under."""
    title: str
    caption: str
    """Content of the figure, its numbers of rows and seeds, and the kind of its intervals."""
    figure: Figure | None
    reason: str | None = None
    """One line, where there is no figure."""

    def _repr_png_(self) -> bytes | None:
        return None if self.figure is None else figure_bytes(self, "png")

    def _repr_markdown_(self) -> str | None:
        return None if self.figure is not None else f"{self.title}: not drawn, {self.reason}."


def absent(name: str, title: str, reason: str) -> Drawing:
    """Return the drawing that says why it is not there."""
    return Drawing(name=name, title=title, caption="", figure=None, reason=reason)


_UNDATED: dict[str, dict[str, None]] = {
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "png": {"Software": None},
}
FORMATS = tuple(_UNDATED)


def save_figure(
    drawing: Drawing, stem: str | Path, *, formats: tuple[str, ...] = FORMATS
) -> list[Path]:
    """Save a figure as `stem.svg`, `stem.pdf` (vector) and `stem.png` (200 dpi).

    Returns the files written.

    Raises:
        ResultError: The drawing has no figure, or a format is unknown.
        EnvironmentFault: A file cannot be written.
    """
    stem = Path(stem)
    for name in formats:
        if name not in FORMATS:
            raise ResultError(f"unknown figure format {name!r}; known: {', '.join(FORMATS)}")
    written = []
    for name in formats:
        path = stem.with_name(f"{stem.name}.{name}")
        with atomic_writer(path) as stream:
            stream.write(figure_bytes(drawing, name))
        written.append(path)
    return written


def figure_bytes(drawing: Drawing, file_format: str) -> bytes:
    """Return a figure as the bytes of an `svg`, `pdf` or `png` file.

    Raises:
        ResultError: The drawing has no figure.
    """
    figure: Figure | None = drawing.figure
    if figure is None:
        raise ResultError(f"figure {drawing.name} was not drawn: {drawing.reason}")
    buffer = io.BytesIO()
    with house_style():
        layout = figure.get_layout_engine()
        if layout is not None:
            # Laid out once; every format then has the same places, and is quicker to save. ("none"
            # would leave a place holder, for which each format is drawn twice.)
            if figure.axes:
                layout.execute(figure)
            figure.set_layout_engine(None)
        figure.savefig(buffer, format=file_format, metadata=_UNDATED[file_format])
    return buffer.getvalue()
