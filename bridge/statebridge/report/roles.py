"""What a condition is for, in words: the channel under test, its baseline, or a control."""

from __future__ import annotations

from collections.abc import Sequence

from statebridge.experiment.conditions import Condition, Role
from statebridge.results.by_condition import ConditionCells

ROLE_WORDS: dict[Role, str] = {
    "baseline": "baseline",
    "text": "text relay",
    "channel": "channel under test",
    "self": "self-injection",
    "control": "control",
    "unknown": "undeclared",
}


def shuffled_twins(groups: Sequence[ConditionCells]) -> list[tuple[str, str]]:
    """Return (channel, control) pairs that differ only in whose state is written."""
    declared = {group.condition: group.declared for group in groups}
    return [
        (name, other)
        for name, condition in declared.items()
        for other in declared
        if isinstance(condition, Condition) and condition.is_shuffled_twin(declared[other])
    ]
