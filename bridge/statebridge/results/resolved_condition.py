"""What a cell's condition means, whether it was published or run here."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import ValidationError

from statebridge.experiment.conditions import TEXT_PROMPTS, Condition
from statebridge.experiment.presets import CONDITIONS
from statebridge.records import CellResult


def resolved_condition(cell: CellResult) -> Condition | None:
    """Return a cell's condition; None where the cell does not say what it is.

    A run directory holds the resolved condition. A published file holds the published words
    for it (`mode`, `alpha`, `scale`), which the condition's name and strength decide.
    """
    if "mode" not in cell.injection and "operator" in cell.injection:
        try:
            return Condition.model_validate(dict(cell.injection))
        except ValidationError:
            return None
    published = CONDITIONS.get(cell.condition)
    if published is None:
        return None
    strength = cell.injection.get("alpha")
    if strength is None:
        strength = cell.injection.get("scale")
    if isinstance(strength, int | float) and not isinstance(strength, bool):
        return published.model_copy(update={"weight": float(strength)})
    return published


def is_plain_baseline(condition: Condition | None) -> bool:
    """Whether nothing is written and no text is relayed: `no_inject`, `question_only`, ..."""
    return (
        condition is not None
        and condition.source == "none"
        and condition.prompt not in TEXT_PROMPTS
    )


def floor_of(cell: CellResult, cells: Sequence[CellResult]) -> CellResult | None:
    """Return the cell in which the receiver reads the same and nothing is written, or None.

    A relay, whose prompt no other cell has, is held beside the task prompt. Of several,
    `no_inject` comes first.
    """
    condition = resolved_condition(cell)
    told = condition is None or condition.prompt in TEXT_PROMPTS
    prompt = "task" if condition is None or told else condition.prompt
    found = [
        other
        for other in cells
        if other.direction == cell.direction
        and (known := resolved_condition(other)) is not None
        and is_plain_baseline(known)
        and known.prompt == prompt
    ]
    # Of a sampled floor, the cell under the same seed.
    return min(
        found,
        key=lambda other: (other.condition != "no_inject", other.seed != cell.seed),
        default=None,
    )


def writes_back_what_was_there(condition: Condition | None) -> bool:
    """Whether what is written is, bit for bit, the receiver's own state.

    The self-injection is; so is any condition of weight 0 (h + 0 · s, 0 · s + 1 · h).
    """
    if condition is None or condition.source == "none":
        return False
    if condition.operator in ("add", "blend") and condition.weight == 0.0:
        return True
    return (
        condition.source == "receiver"
        and condition.operator == "blend"
        and condition.weight == 1.0
        and not condition.match_norm  # rescaling rounds
        and condition.positions == condition.source_positions
    )


def uses_relay(condition: Condition | None) -> bool:
    """Whether the receiver's prompt holds text that the sender wrote."""
    return condition is not None and condition.prompt in TEXT_PROMPTS
