"""What a condition is for: the channel under test, its baseline, or a control."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from statebridge.experiment.conditions import Condition
from statebridge.figures.grouping import ConditionCells
from statebridge.results.resolved_condition import (
    is_plain_baseline,
    resolved_condition,
    uses_relay,
    writes_back_what_was_there,
)

Role = Literal["baseline", "relay", "channel", "self", "control", "unknown"]
"""`channel` carries the sender's states to the receiver; `control` writes something that
cannot carry the row's content (another row's, random or zero states); `self` writes back
what was there."""

ROLE_WORDS: dict[Role, str] = {
    "baseline": "baseline",
    "relay": "text relay",
    "channel": "channel under test",
    "self": "self-injection",
    "control": "control",
    "unknown": "undeclared",
}


def role(group: ConditionCells) -> Role:
    """Return what a condition is for; `unknown` where its cells do not say what it is."""
    condition = resolved_condition(group.cells[0])
    if condition is None:
        return "unknown"
    if is_plain_baseline(condition):
        return "baseline"
    if uses_relay(condition):
        return "relay"
    if writes_back_what_was_there(condition):
        return "self"
    return "channel" if condition.source in ("translated", "sender") else "control"


def shuffled_twins(groups: Sequence[ConditionCells]) -> list[tuple[str, str]]:
    """Return (channel, control) pairs that differ only in whose state is written.

    The control writes another row's state: what the channel does better than it
    is what the row's own content does.
    """
    conditions = {group.condition: resolved_condition(group.cells[0]) for group in groups}
    pairs = []
    for name, condition in conditions.items():
        if condition is None or condition.source not in ("translated", "sender"):
            continue
        for other, shuffled in conditions.items():
            if shuffled is None or not shuffled.shuffled or shuffled.raw != condition.raw:
                continue
            if _writing(condition) == _writing(shuffled):
                pairs.append((name, other))
    return pairs


def _writing(condition: Condition) -> Condition:
    return condition.model_copy(update={"name": "any", "source": "none", "lone_rows": "self"})
