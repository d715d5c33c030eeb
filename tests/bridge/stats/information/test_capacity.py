"""The capacity of runs that are made up: confusions from texts, seeds, table and curve."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from statebridge.errors import ResultError
from statebridge.experiment.presets import CONDITIONS
from statebridge.figures import capacity_curve
from statebridge.records import CellResult, LaneResult, ResultSet
from statebridge.stats.information.capacity import NamedSymbol, capacity
from statebridge.tables import capacity_table, to_markdown
from statebridge.tasks.symbols import symbol_rows

Answer = Callable[[str, int, int], str]


def _run(
    answers: dict[str, Answer], rows: int = 160, counts: tuple[int, ...] = (2, 8)
) -> ResultSet:
    """A run whose conditions answer as (right symbol, row, seed) says."""
    dataset = {row.row_id: row for row in symbol_rows(rows, counts)}
    cells = [
        CellResult(
            condition=CONDITIONS[name],
            seed=seed,
            direction="fwd",
            lanes=[
                LaneResult(
                    row_id=row.row_id,
                    gold=row.answer,
                    prediction=answer(row.answer, place, seed or 0),
                )
                for place, row in enumerate(dataset.values())
            ],
            source=Path("run"),
        )
        for name, answer in answers.items()
        for seed in ((1, 2) if CONDITIONS[name].seeded or name == "private_last" else (None,))
    ]
    return ResultSet(cells=cells, dataset=dataset)


def test_every_condition_at_every_number_of_symbols() -> None:
    found = capacity(
        _run(
            {
                "question_only": lambda right, row, seed: "I do not know.",
                "skyline": lambda right, row, seed: f" {right}.\nQ: {right[::-1]}",
                "private_last": lambda right, row, seed: right if row % 4 < 2 else "no",
            }
        )
    )
    assert [(use.symbols, use.condition) for use in found.uses] == [
        (count, name) for count in (2, 8) for name in ("question_only", "skyline", "private_last")
    ]
    floor, skyline, channel = (
        found.of(name) for name in ("question_only", "skyline", "private_last")
    )
    assert [use.bits_at_least for use in floor] == [0, 0]
    assert [use.bits_at_least for use in skyline] == pytest.approx([1, 3])
    # An erasure channel: half of the bits.
    assert [use.bits_at_least for use in channel] == pytest.approx([0.5, 1.5])
    assert channel[1].named == channel[1].right == 0.5
    assert channel[1].n_rows == 80
    with pytest.raises(ResultError, match="private_lost"):
        found.of("private_lost")


def test_seeds_of_a_row_count_as_one_row() -> None:
    half = capacity(_run({"private_last": lambda right, row, seed: right if row % 4 < 2 else ""}))
    use = half.of("private_last")[1]
    assert (use.seeds, use.n_rows, use.right) == (2, 80, 0.5)
    one = capacity(_run({"skyline": lambda right, row, seed: right if row % 4 < 2 else ""}))
    ends = one.of("skyline")[1]
    assert (use.low, use.high) == pytest.approx((ends.low, ends.high))


def test_a_row_right_under_one_of_two_seeds_is_half_a_row() -> None:
    half = capacity(_run({"private_last": lambda right, row, seed: right if seed == 1 else ""}))
    use = half.of("private_last")[1]
    assert (use.seeds, use.right, use.bits_at_least) == (2, 0.5, pytest.approx(1.5))


def test_the_symbol_named_first_on_the_first_line_counts() -> None:
    named = NamedSymbol(["Bridge", "Amber Bridge", "Amber"])
    assert named("\n It is amber bridge, not Bridge.") == 1
    assert named("the Bridge, or Amber") == 0
    assert named("Ambers and Bridges\nAmber") is None
    assert named("") is None


def test_rows_that_cannot_give_a_capacity_are_refused() -> None:
    plain = _run({"skyline": lambda right, row, seed: right})
    plain.dataset.clear()
    with pytest.raises(ResultError, match="no row names its number of symbols"):
        capacity(plain)
    unfinished = _run({"skyline": lambda right, row, seed: right})
    unfinished.cells[0].lanes = unfinished.cells[0].lanes[:6]
    with pytest.raises(ResultError, match="5 of 8 symbols are in no row of skyline yet"):
        capacity(unfinished)
    silent = _run({"skyline": lambda right, row, seed: right})
    silent.cells[0].lanes[0] = replace(silent.cells[0].lanes[0], prediction=None)
    with pytest.raises(ResultError, match="not decoded"):
        capacity(silent)


def test_the_table_and_the_curve_show_what_was_measured() -> None:
    found = capacity(_run({"skyline": lambda right, row, seed: right}))
    text = to_markdown(capacity_table(found))
    assert "| 8 | skyline | 1 | 80 | 1.000 | 1.000 | 3.00 |" in text
    assert "| 8 | (the name as text) | – | – | – | – | 3.00 | – | – |" in text
    drawing = capacity_curve(found)
    assert drawing.figure is not None
    (axes,) = drawing.figure.axes
    curve = next(line for line in axes.get_lines() if line.get_label() == "skyline")
    assert list(curve.get_ydata()) == pytest.approx([1, 3])
    assert "80 rows" in drawing.caption
