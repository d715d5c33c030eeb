"""Cells by condition, in the order in which figures and reports show them."""

from __future__ import annotations

from dataclasses import dataclass

from statebridge.experiment.conditions import DeclaredCondition, Role
from statebridge.figures.style import reading_order
from statebridge.records import CellResult, Direction, ResultSet


@dataclass(frozen=True, slots=True)
class ConditionCells:
    """The cells of one condition in one direction that hold rows."""

    direction: Direction
    condition: str
    label: str
    """The condition, with its direction where the results hold both."""
    cells: tuple[CellResult, ...]
    """By seed."""

    @property
    def declared(self) -> DeclaredCondition:
        """What the cells say of their condition."""
        return self.cells[0].condition

    @property
    def role(self) -> Role:
        """The part that the condition has."""
        return self.declared.role


def condition_cells(results: ResultSet) -> list[ConditionCells]:
    """Return every condition that has rows: forward first, in reading order."""
    groups: dict[tuple[Direction, str], list[CellResult]] = {}
    for cell in results.cells:
        if cell.lanes:
            groups.setdefault((cell.direction, cell.condition.name), []).append(cell)
    directions = sorted({direction for direction, _ in groups})
    ordered = reading_order(condition for _, condition in groups)
    return [
        ConditionCells(
            direction,
            condition,
            row_label(condition, direction, both=len(directions) > 1),
            tuple(sorted(groups[direction, condition], key=_seed)),
        )
        for direction in directions
        for condition in ordered
        if (direction, condition) in groups
    ]


def row_label(condition: str, direction: Direction, *, both: bool) -> str:
    """Return a condition's label: with its direction where both are shown."""
    return f"{condition} ({direction})" if both else condition


def _seed(cell: CellResult) -> int:
    return -1 if cell.seed is None else cell.seed
