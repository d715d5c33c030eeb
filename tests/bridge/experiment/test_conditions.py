"""The algebra of conditions: what may be declared, and what contradicts itself."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from statebridge.experiment import Condition
from statebridge.experiment.positions import count, describe
from statebridge.experiment.presets import CONDITIONS, named_condition

SOURCES = ("none", "translated", "receiver", "random", "zero", "shuffled", "sender")


def _condition(**fields: Any) -> Condition:
    return Condition(**{"name": "mine", "source": "translated", **fields})


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"source": "none", "operator": "add"}, "takes no operator or weight"),
        ({"source": "none", "weight": 0.5}, "takes no operator or weight"),
        ({"source": "none", "match_norm": True}, "takes no operator or weight"),
        ({"source": "none", "positions": "last"}, "takes no positions"),
        ({"source": "none", "source_positions": "last"}, "has no source_positions"),
        ({"source": "zero", "source_positions": (0,)}, "source zero has no source_positions"),
        ({"source": "random", "source_positions": "last"}, "source random has no"),
        ({"prompt": "relay"}, "the relay prompt goes with source none"),
        ({"source": "receiver", "prompt": "relay"}, "the relay prompt goes with source none"),
        ({"operator": "mean", "weight": 0.5}, "operator mean has no weight"),
        ({"operator": "sum", "weight": 0.0}, "operator sum has no weight"),
        ({"lone_rows": "drop"}, "lone_rows: drop goes with source shuffled"),
        ({"align": "last_dimensions"}, "align goes with source sender"),
        ({"positions": "last"}, "all positions read cannot be written at last position"),
        ({"positions": (0, 1)}, "all positions read cannot be written at positions [0, 1]"),
        ({"source_positions": (0, 1)}, "positions [0, 1] read cannot be written at all positions"),
        ({"source_positions": (0, 1), "positions": "last"}, "read as many positions"),
        ({"source_positions": (0, 1), "positions": (0, 1, 2)}, "read as many positions"),
        ({"positions": ()}, "at least 1 item"),
        ({"source_positions": ()}, "at least 1 item"),
        ({"positions": "first"}, "Input should be 'all', 'last', 'question' or 'placeholder'"),
        # The private setting.
        ({"positions": "question"}, "question positions go with prompt: question_only or place"),
        ({"source": "zero", "positions": "question"}, "question positions go with prompt"),
        ({"source": "zero", "positions": "placeholder"}, "placeholder positions go with prompt"),
        (
            {"source": "zero", "positions": "placeholder", "prompt": "question_only"},
            "placeholder positions go with prompt: placeholder",
        ),
        (
            {"source_positions": "placeholder", "positions": "last", "prompt": "question_only"},
            "placeholder positions go with prompt: placeholder",
        ),
        (
            {"source_positions": "question", "prompt": "question_only"},
            "question positions read cannot be written at all positions",
        ),
        (
            {"positions": "question", "prompt": "question_only"},
            "all positions read cannot be written at question positions",
        ),
        (
            {"positions": "placeholder", "source_positions": "question", "prompt": "placeholder"},
            "question positions read cannot be written at placeholder positions",
        ),
        (
            {"positions": "last", "source_positions": "question", "prompt": "question_only"},
            "question positions read cannot be written at last position",
        ),
        ({"source": "none", "prompt": "placeholder", "positions": "last"}, "takes no positions"),
        (
            {"source": "random", "prompt": "placeholder", "source_positions": "placeholder"},
            "source random has no source_positions",
        ),
        ({"lone_rows": "nearest"}, "lone_rows: nearest goes with source shuffled"),
        ({"source": "shuffled", "lone_rows": "nearest"}, "source_positions last or question"),
        (
            {
                "source": "shuffled",
                "lone_rows": "nearest",
                "prompt": "placeholder",
                "positions": "placeholder",
                "source_positions": "placeholder",
            },
            "source_positions last or question",
        ),
        ({"source": "sender", "translator": "mine"}, "goes with source translated, not sender"),
        ({"source": "random", "translator": "mine"}, "goes with source translated, not random"),
        ({"source": "shuffled", "sender_context": "empty"}, "that sends the row's own states"),
        ({"source": "zero", "sender_context": "neutral"}, "(translated, sender), not zero"),
        ({"sender_context": "null"}, "Input should be 'empty' or 'neutral'"),
        ({"operator": "append"}, "append goes with site: kv or embedding"),
        ({"layers": [1]}, "layers goes with site: kv"),
        ({"reposition": "keep"}, "reposition goes with site: kv"),
        ({"source": "sender", "site": "kv"}, "site kv takes operator: append"),
        (
            {"source": "zero", "site": "kv", "operator": "append"},
            "use source sender, shuffled_sender, translated or shuffled, not zero",
        ),
        (
            {"site": "embedding", "operator": "append", "soft_tokens": {"by": "vocab"}},
            "use source sender or shuffled_sender, not translated",
        ),
        (
            {"source": "sender", "site": "kv", "operator": "append", "source_positions": "last"},
            "leave source_positions out",
        ),
        ({"translator": "../up"}, "pattern"),
        ({"translator": ""}, "pattern"),
        ({"prompt": "question"}, "'task', 'relay', 'question_only', 'placeholder' or 'debate'"),
        ({"positions": (0.5,)}, "valid integer"),
        ({"weight": float("nan")}, "finite number"),
        ({"weight": float("inf")}, "finite number"),
        ({"source": "translate"}, "did you mean translated"),
        ({"operator": "replace"}, "'add', 'blend', 'mean', 'sum', 'append' or 'fuse'"),
        ({"name": ""}, "pattern"),
        ({"name": "../escape"}, "pattern"),
        ({"name": "has space"}, "pattern"),
        ({"name": "Upper"}, "pattern"),
        ({"name": "a" * 81}, "at most 80"),
        ({"colour": "red"}, "Extra inputs"),
    ],
)
def test_contradictions_are_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        _condition(**fields)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "fields",
    [
        {"source": "none"},
        {"source": "none", "prompt": "relay"},
        {"source": "zero", "positions": (0, -1)},
        {"source": "random", "match_norm": True, "positions": "last"},
        {"source_positions": "last"},
        {"source_positions": (-2,), "positions": (0, 1, 2)},
        {"source_positions": (3, 1), "positions": (0, -1)},
        {"source_positions": "last", "positions": "last", "operator": "mean"},
        {"source": "sender", "align": "last_dimensions", "operator": "sum"},
        {"source": "shuffled", "lone_rows": "drop"},
        {"weight": -2},
        {"weight": 0, "operator": "add"},
        {"name": "0-a_b.c"},
        {"source": "none", "prompt": "placeholder"},
        {"prompt": "question_only", "positions": "question", "source_positions": "question"},
        {"prompt": "question_only", "positions": "question", "source_positions": (3,)},
        {"prompt": "question_only", "source_positions": "last"},
        {"prompt": "placeholder", "positions": "question", "source_positions": "question"},
        {"prompt": "placeholder", "positions": "placeholder", "source_positions": "placeholder"},
        {"prompt": "placeholder"},
        {"source": "receiver", "prompt": "question_only"},
        {"source": "shuffled", "lone_rows": "nearest", "source_positions": "last"},
        {"source": "shuffled", "translator": "mine"},
        {"translator": "0-a_b.c"},
    ],
)
def test_points_of_the_algebra_are_accepted(fields: dict[str, Any]) -> None:
    condition = _condition(**fields)
    assert Condition.model_validate(condition.model_dump(mode="json")) == condition


@pytest.mark.parametrize("source", SOURCES)
def test_what_a_source_needs(source: str) -> None:
    condition = _condition(source=source)
    assert condition.seeded == (source in {"translated", "random", "shuffled"})
    assert condition.reads_sender == (source in {"translated", "shuffled", "sender"})
    assert condition.translates == (source in {"translated", "shuffled"})


def test_a_condition_is_a_value() -> None:
    assert _condition() == _condition()
    assert len({_condition(), _condition(), _condition(weight=0.5)}) == 2
    with pytest.raises(ValidationError, match="frozen"):
        _condition().weight = 2.0  # type: ignore[misc]


def test_positions_in_words() -> None:
    named = ("all", "last", (1, 2), "question", "placeholder")
    assert [count(positions) for positions in named] == ["all", 1, 2, "question", "placeholder"]
    assert [describe(positions) for positions in (*named, (-1, 0))] == [
        "all positions",
        "last position",
        "positions [1, 2]",
        "question positions",
        "placeholder positions",
        "positions [-1, 0]",
    ]


@pytest.mark.parametrize(
    ("prompt", "private"),
    [("task", False), ("relay", False), ("question_only", True), ("placeholder", True)],
)
def test_a_prompt_without_the_context_makes_it_private(prompt: Any, private: bool) -> None:
    assert _condition(source="none", prompt=prompt).private is private


@pytest.mark.parametrize(
    ("role", "names"),
    [
        ("baseline", "no_inject question_only skyline placeholder_only"),
        ("text", "nl_relay private_relay debate"),
        ("channel", "additive replace best_alpha private_last activation_sum"),
        ("self", "b_to_b_self_inject private_last_self"),
        (
            "control",
            "same_norm_random shuffled_translation zero_replacement activation_replace_shuffled",
        ),
        ("unknown", "mine"),
    ],
)
def test_a_condition_knows_its_role(role: str, names: str) -> None:
    for name in names.split():
        condition = named_condition(name)
        assert condition.role == role, name
        assert condition.carries_sender == (role == "channel"), name
        assert condition.writes == (role not in ("baseline", "text")), name
        assert condition.uses_text == (role == "text"), name


def test_weight_0_writes_back_the_receivers_own_state() -> None:
    condition = _condition(weight=0.0)
    assert (condition.role, condition.carries_sender) == ("self", True)
    assert _condition(source="receiver", match_norm=True).role == "control"
    assert _condition(source="receiver", source_positions="last").role == "control"


def test_a_shuffled_twin_differs_in_whose_state_is_written() -> None:
    own, other = CONDITIONS["private_last"], CONDITIONS["private_last_shuffled"]
    assert own.is_shuffled_twin(other)
    assert not other.is_shuffled_twin(own)
    assert not CONDITIONS["private_last_matched"].is_shuffled_twin(other)
    assert not CONDITIONS["activation_replace"].is_shuffled_twin(other)
    assert not own.is_shuffled_twin(named_condition("mine"))
    assert own.same_but(own.model_copy(update={"name": "mine", "weight": 0.5}), "weight")
