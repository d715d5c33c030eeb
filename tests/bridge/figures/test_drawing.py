"""Saved figures: vector and raster, the same bytes every time, apart in grey print."""

from __future__ import annotations

import itertools
from pathlib import Path

import matplotlib
import matplotlib.colors
import pytest

from statebridge import figures
from statebridge.errors import EnvironmentFault, ResultError
from statebridge.experiment.presets import PUBLISHED
from statebridge.figures.accuracy import _LOOKS as _CONTAINMENT_LOOKS
from statebridge.figures.drawing import absent, figure_bytes
from statebridge.figures.style import series_styles
from statebridge.figures.texts import _LOOKS
from tests.bridge.figures.made_run import made_run


@pytest.mark.slow
def test_saves_vector_and_raster(tmp_path: Path) -> None:
    written = figures.save_figure(figures.containment(made_run(rows=6)), tmp_path / "a.b")
    assert [path.name for path in written] == ["a.b.svg", "a.b.pdf", "a.b.png"]
    starts = [path.read_bytes()[:5] for path in written]
    assert starts == [b"<?xml", b"%PDF-", b"\x89PNG\r"]
    # Embedded outlines (TrueType), not bitmaps of letters, so that a journal takes the file.
    assert b"/FontFile2" in written[1].read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("file_format", ["svg", "pdf", "png"])
def test_the_same_results_give_the_same_bytes(file_format: str) -> None:
    first = figure_bytes(figures.norm_mismatch(made_run(rows=6)), file_format)
    with matplotlib.rc_context({"font.size": 30, "svg.hashsalt": "another"}):
        second = figure_bytes(figures.norm_mismatch(made_run(rows=6)), file_format)
    assert first == second
    assert b"<dc:date>" not in first
    assert b"CreationDate" not in first


@pytest.mark.slow
def test_drawing_leaves_the_callers_settings_alone() -> None:
    before = dict(matplotlib.rcParams)
    figure_bytes(figures.containment(made_run(rows=6)), "png")
    assert dict(matplotlib.rcParams) == before


def test_refuses_what_cannot_be_saved(tmp_path: Path) -> None:
    drawing = figures.containment(made_run(rows=6))
    with pytest.raises(ResultError, match="unknown figure format 'jpg'; known: svg, pdf, png"):
        figures.save_figure(drawing, tmp_path / "a", formats=("png", "jpg"))
    assert not list(tmp_path.iterdir())
    with pytest.raises(ResultError, match="figure x was not drawn: there is nothing"):
        figures.save_figure(absent("x", "X", "there is nothing"), tmp_path / "a")
    with pytest.raises(EnvironmentFault, match="cannot be written"):
        figures.save_figure(drawing, tmp_path / "missing" / "a")


def test_published_conditions_differ_in_more_than_colour() -> None:
    styles = series_styles(PUBLISHED)
    looks = [(styles[name].marker, styles[name].dash) for name in list(PUBLISHED)[:10]]
    assert len(set(looks)) == len(looks)
    assert len({marker for marker, _ in looks}) == len(looks)


def luminance(colour: str) -> float:
    """The grey of a colour in print (ITU-R BT.709 weights)."""
    red, green, blue = matplotlib.colors.to_rgb(colour)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_filled_areas_differ_in_grey_and_in_hatch() -> None:
    for looks in (
        [(colour, hatch) for colour, hatch in _LOOKS.values()],
        [(colour, hatch) for colour, hatch, _ in _CONTAINMENT_LOOKS],
    ):
        assert len({hatch for _, hatch in looks}) == len(looks)
        for (one, _), (other, _) in itertools.combinations(looks, 2):
            # A tenth of the grey scale is easily seen in print.
            assert abs(luminance(one) - luminance(other)) > 0.1
