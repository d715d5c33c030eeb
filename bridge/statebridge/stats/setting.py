"""Settings: conditions under which the receiver reads the same, and what bounds them.

In the shared setting the receiver reads the context itself (arXiv 2606.03280). In a private
one it does not (arXiv 2501.14082): the receiver alone is the floor, and the receiver that
reads everything, the skyline, is the ceiling of what a channel could give.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from statebridge.experiment.conditions import DeclaredCondition, Prompt
from statebridge.records import Direction, ResultSet


@dataclass(frozen=True, slots=True)
class ChannelSetting:
    """Conditions that are compared with one another, in one direction."""

    direction: Direction
    prompt: Prompt
    """Prompt of the receiver; `task` is the shared setting."""
    floor: str
    """The condition that writes nothing: what the others are compared with."""
    ceiling: str | None
    """The skyline, of a private setting that has one."""
    conditions: frozenset[str]
    """All that belong to it, with floor, ceiling and text relays."""

    @property
    def private(self) -> bool:
        """Whether the context is the sender's alone."""
        return self.prompt != "task"


def channel_settings(results: ResultSet) -> list[ChannelSetting]:
    """Return the settings that the results hold, forward first, the shared one first.

    A shared setting is one with `no_inject`, or another condition that writes nothing, and
    something to compare it with; a private one needs its own floor.
    """
    found: list[ChannelSetting] = []
    for direction in sorted({cell.direction for cell in results.cells if cell.lanes}):
        conditions = {
            cell.condition.name: cell.condition
            for cell in results.cells
            if cell.direction == direction and cell.lanes
        }
        private = [
            setting
            for prompt in ("question_only", "placeholder")
            if (setting := _private(direction, prompt, conditions)) is not None
        ]
        found += _shared(direction, conditions, alone=not private)
        found += private
    return found


def _shared(
    direction: Direction, conditions: Mapping[str, DeclaredCondition], *, alone: bool
) -> list[ChannelSetting]:
    plain = _floors(conditions, "task")
    members = {name for name, c in conditions.items() if not c.private}
    writing = any(conditions[name].writes for name in members)
    if not plain or not (alone or writing):
        return []
    floor = "no_inject" if "no_inject" in plain else plain[0]
    # Beside a private setting, its skyline is the same lanes under another name.
    others = frozenset(members if alone else members - set(plain)) | {floor}
    return [ChannelSetting(direction, "task", floor, None, others)]


def _private(
    direction: Direction, prompt: Prompt, conditions: Mapping[str, DeclaredCondition]
) -> ChannelSetting | None:
    floors = _floors(conditions, prompt)
    if not floors:
        return None
    plain = _floors(conditions, "task")
    ceiling = "skyline" if "skyline" in plain else next(iter(plain), None)
    members = {name for name, c in conditions.items() if c.prompt == prompt or c.uses_text}
    if ceiling is not None:
        members.add(ceiling)
    return ChannelSetting(direction, prompt, floors[0], ceiling, frozenset(members))


def _floors(conditions: Mapping[str, DeclaredCondition], prompt: Prompt) -> list[str]:
    return [name for name, c in conditions.items() if c.is_baseline and c.prompt == prompt]
