"""Tables, comparisons and figures as a notebook shows them; runs are in test_run.py."""

from __future__ import annotations

import pytest

from statebridge.figures import Drawing
from statebridge.figures.drawing import absent
from statebridge.figures.style import new_figure
from statebridge.stats import Settings, compare
from statebridge.tables import Column, Range, Table, comparison_table
from tests.bridge.report.hostile import HOSTILE, hostile_results


def test_a_table_is_shown_with_title_and_notes_escaped() -> None:
    columns = (Column("a", HOSTILE[0]), Column("b", "interval", "range", "signed", 2))
    table = Table(HOSTILE[3], columns, ((HOSTILE[4], Range(-0.25, 0.5)),), (HOSTILE[0],))
    shown = table._repr_html_()
    assert "[−0.25, +0.50]" in shown
    assert "<script>" not in shown
    assert "<img" not in shown
    assert "<svg" not in shown


def test_a_comparison_is_shown_as_a_table_of_its_differences() -> None:
    comparison = compare(hostile_results(), settings=Settings(stratify_by=()))
    shown = comparison._repr_html_()
    assert shown.count("<tr>") == 1 + len(comparison.differences)
    first = comparison.differences[0]
    assert f"{first.delta:+.4f}" in shown
    # The same numbers as in the table with every column.
    table = comparison_table(comparison)
    place = [column.name for column in table.columns].index("delta")
    assert table.rows[0][place] == pytest.approx(first.delta)


def test_a_figure_is_shown_as_a_picture_or_by_its_reason() -> None:
    drawn = Drawing("x", "X", "caption", new_figure(1.0))
    picture = drawn._repr_png_()
    assert picture is not None
    assert picture.startswith(b"\x89PNG")
    assert drawn._repr_markdown_() is None
    missing = absent("x", "X", "there is no row")
    assert missing._repr_png_() is None
    assert missing._repr_markdown_() == "X: not drawn, there is no row."
