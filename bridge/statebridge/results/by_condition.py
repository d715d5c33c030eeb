"""Cells by condition, in the order in which figures and reports show them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from statebridge.experiment.conditions import DeclaredCondition, Role
from statebridge.experiment.presets import CONDITIONS
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
        """Declaration that the cells have of their condition."""
        return self.cells[0].condition

    @property
    def role(self) -> Role:
        """The part that the condition has."""
        return self.declared.role


def condition_cells(results: ResultSet) -> list[ConditionCells]:
    """Return every condition that has rows: forward first, by setting, in reading order.

    Conditions of a setting are together, so that one of the user's own is beside those it is
    compared with. The skyline bounds private channels and is with them.
    """
    groups: dict[tuple[Direction, str], list[CellResult]] = {}
    for cell in results.cells:
        if cell.lanes:
            groups.setdefault((cell.direction, cell.condition.name), []).append(cell)
    directions = sorted({direction for direction, _ in groups})
    ordered = reading_order(condition for _, condition in groups)
    private = any(cells[0].condition.private for cells in groups.values())

    def setting(direction: Direction, name: str) -> int:
        condition = groups[direction, name][0].condition
        bound = private and condition.is_baseline and name.partition("@")[0] == "skyline"
        return _SETTINGS.get("question_only" if bound else condition.prompt, 0)

    return [
        ConditionCells(
            direction,
            condition,
            row_label(condition, direction, both=len(directions) > 1),
            tuple(sorted(groups[direction, condition], key=_seed)),
        )
        for direction in directions
        for condition in sorted(
            (name for name in ordered if (direction, name) in groups),
            key=lambda name: setting(direction, name),
        )
    ]


_SETTINGS = {"question_only": 1, "placeholder": 2}
"""Place of the settings that are not shared, by the receiver's prompt."""


def reading_order(conditions: Iterable[str]) -> list[str]:
    """Return distinct conditions in the order of the published table, then as they came."""
    distinct = list(dict.fromkeys(conditions))
    known = [name for name in CONDITIONS if name in distinct]
    return known + [name for name in distinct if name not in CONDITIONS]


def row_label(condition: str, direction: Direction, *, both: bool) -> str:
    """Return a condition's label: with its direction where both are shown."""
    return f"{condition} ({direction})" if both else condition


def _seed(cell: CellResult) -> int:
    return -1 if cell.seed is None else cell.seed
