"""The named conditions, those of arXiv 2606.03280 and private ones, and presets made of them."""

from __future__ import annotations

from statebridge.errors import ExperimentError, nearest
from statebridge.experiment.conditions import Condition, DeclaredCondition, UnknownCondition

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

QUESTION_ONLY = Condition(name="question_only", source="none", prompt="question_only")
"""The receiver alone with the question: the floor of a private channel."""
SKYLINE = Condition(name="skyline", source="none")
"""The receiver with the whole task prompt, as `no_inject`: the ceiling of a private channel."""
PLACEHOLDER_ONLY = Condition(name="placeholder_only", source="none", prompt="placeholder")
"""The receiver with the question and placeholders: the floor of a channel through these."""

_BOUNDS = (QUESTION_ONLY, SKYLINE)
_TEXT = Condition(name="private_relay", source="none", prompt="relay")
_DEBATE = Condition(name="debate", source="none", prompt="debate")


def _private(name: str, **declared: object) -> Condition:
    return Condition.model_validate({"name": name, "prompt": "question_only", **declared})


_LAST = {"positions": "last", "source_positions": "last"}
_QUESTION = {"positions": "question", "source_positions": "question", "match_norm": True}
_PLACEHOLDER = {
    "positions": "placeholder",
    "source_positions": "placeholder",
    "prompt": "placeholder",
    "match_norm": True,
}
_PRIVATE_LAST = (
    # As the translator puts it out: a map trained through the receiver has the right length.
    _private("private_last", source="translated", **_LAST),
    _private("private_last_shuffled", source="shuffled", lone_rows="nearest", **_LAST),
    # At the receiver's norm: a map of normalised states has no length of its own.
    _private("private_last_matched", source="translated", match_norm=True, **_LAST),
    _private(
        "private_last_matched_shuffled",
        source="shuffled",
        lone_rows="nearest",
        match_norm=True,
        **_LAST,
    ),
    _private("private_last_random", source="random", match_norm=True, positions="last"),
    _private("private_last_zero", source="zero", positions="last"),
    _private("private_last_self", source="receiver", **_LAST),
)
_PRIVATE_QUESTION = (
    _private("private_question", source="translated", **_QUESTION),
    _private("private_question_shuffled", source="shuffled", lone_rows="nearest", **_QUESTION),
)
_PRIVATE_PLACEHOLDER = (
    PLACEHOLDER_ONLY,
    _private("private_placeholder", source="translated", **_PLACEHOLDER),
    _private("private_placeholder_shuffled", source="shuffled", lone_rows="drop", **_PLACEHOLDER),
)

# arXiv 2501.14082: raw states, one position, no parameters; narrower ones meet the last dimensions.
_RAW_LAST = {"source": "sender", "align": "last_dimensions", **_LAST}
_ACTIVATIONS = (
    _private("activation_sum", operator="sum", **_RAW_LAST),
    _private("activation_mean", operator="mean", **_RAW_LAST),
    _private("activation_replace", **_RAW_LAST),
    _private(
        "activation_replace_shuffled",
        lone_rows="nearest",
        **{**_RAW_LAST, "source": "shuffled_sender"},
    ),
)
_SELF_LAST = next(c for c in _PRIVATE_LAST if c.source == "receiver")
_POSITIVE_CONTROL = (
    *_BOUNDS,
    _SELF_LAST,
    *(c for c in _ACTIVATIONS if c.name.startswith("activation_replace")),
)

PUBLISHED: dict[str, Condition] = {c.name: c for c in (*_PUBLISHED, _STRICT)}
"""The conditions of arXiv 2606.03280."""

CONDITIONS: dict[str, Condition] = {
    c.name: c
    for c in (
        *PUBLISHED.values(),
        *_BOUNDS,
        _TEXT,
        _DEBATE,
        *_PRIVATE_LAST,
        *_PRIVATE_QUESTION,
        *_PRIVATE_PLACEHOLDER,
        *_ACTIVATIONS,
    )
}
"""Every named condition; a condition declared in an experiment file may not reuse a name."""

PRESETS: dict[str, tuple[Condition, ...]] = {
    # The 21 published files plus zero_replacement, an extra of the same paper.
    "published": _PUBLISHED,
    # The 24 published files plus zero_replacement.
    "published-strict": (*_PUBLISHED, _STRICT),
    # The context is the sender's alone; it is written at the last token of the question.
    "private": (*_BOUNDS, *_PRIVATE_LAST),
    # arXiv 2501.14082: silent, skyline and text as bounds, and the three combinations.
    "activations": (*_BOUNDS, _TEXT, *_ACTIVATIONS),
    # For a model paired with itself, layer by layer: a channel that must carry something.
    "positive-control": _POSITIVE_CONTROL,
    # The private setting with every way of writing, and the text that could be sent instead.
    "private-all": (
        *_BOUNDS,
        _TEXT,
        *_PRIVATE_LAST,
        *_PRIVATE_QUESTION,
        *_PRIVATE_PLACEHOLDER,
    ),
}


def named_condition(name: str) -> DeclaredCondition:
    """Return the condition of a name; one of which nothing else is known, if it is no preset's."""
    return CONDITIONS.get(name) or UnknownCondition(name)


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
                kind = "published" if item.name in PUBLISHED else "named"
                raise ExperimentError(
                    f"conditions: {item.name} is a {kind} condition and cannot mean something "
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
