"""The published conditions of arXiv 2606.03280, by name, and the presets made of them."""

from __future__ import annotations

from statebridge.errors import ExperimentError, nearest
from statebridge.spec.conditions import Condition

NO_INJECT = Condition(name="no_inject", source="none")
"""The baseline: the receiver alone with the task prompt."""

_PUBLISHED = (
    NO_INJECT,
    Condition(name="nl_relay", source="none", prompt="relay"),
    # The translated last position, the same vector at every position of the prompt.
    Condition(
        name="additive", source="translated", operator="add", weight=0.01, source_positions="last"
    ),
    Condition(name="replace", source="translated"),
    Condition(name="scale_corrected", source="translated", match_norm=True),
    Condition(name="best_alpha", source="translated", weight=0.30, match_norm=True),
    Condition(name="b_to_b_self_inject", source="receiver"),
    Condition(name="same_norm_random", source="random", match_norm=True),
    Condition(name="shuffled_translation", source="shuffled", match_norm=True),
    Condition(name="zero_replacement", source="zero"),
)
_STRICT = Condition(
    name="shuffled_translation_strict_matched",
    source="shuffled",
    match_norm=True,
    lone_rows="drop",
)

CONDITIONS: dict[str, Condition] = {c.name: c for c in (*_PUBLISHED, _STRICT)}
"""Every named condition; a condition declared in an experiment file may not reuse a name."""

PRESETS: dict[str, tuple[Condition, ...]] = {
    # The 21 published files plus zero_replacement, an extra of the same paper.
    "published": _PUBLISHED,
    # The 24 published files plus zero_replacement.
    "published-strict": (*_PUBLISHED, _STRICT),
}


def resolve_conditions(declared: str | list[str | Condition]) -> tuple[Condition, ...]:
    """Turn preset names, condition names and condition objects into conditions, in order.

    Raises:
        ExperimentError: unknown name (nearest ones offered), a name given twice, or a
            condition object that takes a published name with another meaning.
    """
    resolved: dict[str, Condition] = {}
    for item in [declared] if isinstance(declared, str) else declared:
        if isinstance(item, Condition):
            known = CONDITIONS.get(item.name)
            if known is not None and known != item:
                raise ExperimentError(
                    f"conditions: {item.name} is a published condition and cannot mean something "
                    f"else; give yours another name, such as {item.name}_variant"
                )
            group: tuple[Condition, ...] = (item,)
        elif item in PRESETS:
            group = PRESETS[item]
        elif item in CONDITIONS:
            group = (CONDITIONS[item],)
        else:
            raise ExperimentError(
                f"conditions: unknown condition or preset {item!r}; "
                f"{nearest(item, [*PRESETS, *CONDITIONS])}"
            )
        for condition in group:
            if condition.name in resolved and resolved[condition.name] != condition:
                raise ExperimentError(f"conditions: two conditions are named {condition.name}")
            if condition.name in resolved:
                raise ExperimentError(f"conditions: {condition.name} is listed twice")
            resolved[condition.name] = condition
    if not resolved:
        raise ExperimentError("conditions: the list is empty; name at least one, or a preset")
    return tuple(resolved.values())
