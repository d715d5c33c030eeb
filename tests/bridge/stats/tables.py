"""Small result tables, made of outcomes instead of texts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from statebridge.experiment.presets import named_condition
from statebridge.records import CellResult, DatasetRow, Direction, LaneResult, ResultSet

METRIC = "word_boundary_contains"
SEEDS = (42, 123, 456)


def cell(
    condition: str,
    outcomes: Sequence[int | None] | Mapping[str, int | None],
    seed: int | None = None,
    direction: Direction = "fwd",
    **fields: Any,
) -> CellResult:
    """A cell whose rows are right (1), wrong (0) or not decoded (None) under `METRIC`."""
    texts = {1: "it is gold", 0: "it is lead", None: None}
    by_id = outcomes if isinstance(outcomes, Mapping) else numbered(outcomes)
    rows = [LaneResult(row_id, "gold", texts[outcome]) for row_id, outcome in by_id.items()]
    source = Path(f"{condition}_{direction}_{seed}.json")
    return CellResult(named_condition(condition), seed, direction, rows, source, **fields)


def measured(
    condition: str,
    field: str,
    values: Sequence[float | None],
    seed: int | None = None,
    direction: Direction = "fwd",
) -> CellResult:
    """A cell that was measured without decoding: one number per row."""
    rows = [
        LaneResult(row_id, "gold", None, **{field: value})
        for row_id, value in numbered(values).items()
    ]
    return CellResult(
        named_condition(condition), seed, direction, rows, Path(f"{condition}_{seed}.json")
    )


def numbered(values: Iterable[Any]) -> dict[str, Any]:
    """Row ids in the order of the values."""
    return {f"row{index:04}": value for index, value in enumerate(values)}


def results(*cells: CellResult, dataset: Mapping[str, DatasetRow] | None = None) -> ResultSet:
    """A result set of cells."""
    return ResultSet(list(cells), dict(dataset or {}))
