"""Cells whose rows disagree between metrics in known ways."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from statebridge.experiment.presets import named_condition
from statebridge.records import CellResult, DatasetRow, LaneResult, ResultSet

TEXTS = {
    "V": "Paris. It is the capital of France",  # verbose_correct
    "S": "The Parisian way of life",  # substring_noise
    "A": "Lyon is larger than Paris today",  # accidental_mention
    "E": "paris!",  # exact once normalised: no disagreement
    "W": "Berlin",  # wrong: no disagreement
}


def cell(
    condition: str,
    codes: str,
    seed: int | None = None,
) -> CellResult:
    """A cell with one row per code of `TEXTS`; `0` is a null prediction."""
    rows = [
        LaneResult(f"r{index:02d}", "Paris", None if code == "0" else TEXTS[code])
        for index, code in enumerate(codes)
    ]
    return CellResult(named_condition(condition), seed, "fwd", rows, Path("memory"))


def results(cells: Sequence[CellResult], *, dataset: bool = False) -> ResultSet:
    ids = {row.row_id for one in cells for row in one.lanes} if dataset else set()
    return ResultSet(
        list(cells),
        {i: DatasetRow(i, f"context of {i}", f"question of {i}?", "Paris") for i in sorted(ids)},
    )
