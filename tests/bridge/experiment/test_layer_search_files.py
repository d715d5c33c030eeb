"""Layer searches in experiment files: which layers meet, and what is refused."""

from __future__ import annotations

import pytest

from statebridge.experiment.layer_search import candidates
from tests.bridge.experiment.refusal import BASE, parsed, refusal

FIT = "translators: {fit: {kind: ridge, corpus: {path: a.txt}}}\n"
PRIVATE = BASE + FIT + "conditions: private\n"


def test_every_sender_layer_meets_every_receiver_layer() -> None:
    found = parsed(
        PRIVATE + "layer_search: {sender_layers: [0, 0.5], receiver_layers: [-1, 2]}\n"
    ).layer_search
    assert found is not None
    assert found.layer_pairs == ((0, -1), (0, 2), (0.5, -1), (0.5, 2))


def test_the_earlier_name_of_the_field_is_read() -> None:
    layers = "{sender_layers: [0, 0.5], receiver_layers: [-1, 2]}\n"
    now = parsed(PRIVATE + f"layer_search: {layers}")
    assert parsed(PRIVATE + f"sweep: {layers}") == now
    assert "sweep" not in now.model_dump()
    both = refusal(PRIVATE + f"layer_search: {layers}sweep: {layers}")
    assert "sweep" in both


def test_lists_go_together_and_the_same_layer_meets_itself() -> None:
    listed = parsed(
        PRIVATE + "layer_search: {sender_layers: [0, 1], receiver_layers: [2, 3], pairs: list}\n"
    ).layer_search
    same = parsed(
        PRIVATE + "layer_search: {sender_layers: [0.25, 0.5], pairs: same}\n"
    ).layer_search
    assert listed is not None
    assert same is not None
    assert listed.layer_pairs == ((0, 2), (1, 3))
    assert same.layer_pairs == ((0.25, 0.25), (0.5, 0.5))


def test_channels_are_chosen_among_unless_named() -> None:
    text = PRIVATE + "layer_search: {sender_layers: [0, 1], pairs: same, choose: {CHOSEN}}\n"
    every = candidates(parsed(text.replace("CHOSEN", "seed: 1")))
    named = candidates(parsed(text.replace("CHOSEN", "condition: private_last_zero")))
    assert [c.name for c in every] == ["private_last", "private_last_matched"]
    assert [c.name for c in named] == ["private_last_zero"]


@pytest.mark.parametrize(
    ("search", "words"),
    [
        ("{sender_layers: [0], receiver_layers: [1]}", "one pair of layers is no layer search"),
        ("{sender_layers: [0], pairs: same}", "one pair of layers is no layer search"),
        ("{sender_layers: [0, 1]}", "pairs product needs receiver_layers"),
        ("{sender_layers: [0, 1], receiver_layers: [1], pairs: list}", "they hold 2 and 1 layers"),
        ("{sender_layers: [0, 1], receiver_layers: [1], pairs: same}", "leave receiver_layers out"),
        ("{sender_layers: [], pairs: same}", "is empty; give at least 1"),
        ("{sender_layers: [true, 1], pairs: same}", "give a relative depth"),
        ("{sender_layers: [0, 1], pairs: some}", "'product', 'same' or 'list'"),
        ("{sender_layers: [0, 1], pears: same}", "did you mean pairs?"),
        ("7", "not 7"),
    ],
)
def test_layers_that_make_no_layer_search(search: str, words: str) -> None:
    message = refusal(PRIVATE + f"layer_search: {search}\n")
    assert message.startswith(", line ")
    assert words in message


def test_too_many_pairs() -> None:
    layers = list(range(80))
    message = refusal(
        PRIVATE + f"layer_search: {{sender_layers: {layers}, receiver_layers: {layers}}}\n"
    )
    assert "6400 pairs of layers are more than 4096" in message


@pytest.mark.parametrize(
    ("choose", "words"),
    [
        (
            "{condition: private_lst}",
            "layer_search.choose.condition: private_lst is not a condition",
        ),
        ("{condition: private_lst}", "did you mean private_last"),
        ("{condition: skyline}", "writes nothing, so it is the same at every layer"),
        ("{condition: [private_last, private_last]}", "private_last is listed twice"),
        ("{condition: []}", "is empty; give at least 1"),
        ("{share: 0}", "layer_search.choose.share"),
        ("{share: 1}", "layer_search.choose.share"),
        ("{metric: gold_rank}", "'gold_logprob'"),
    ],
)
def test_choices_that_cannot_be_made(choose: str, words: str) -> None:
    text = PRIVATE + f"layer_search: {{sender_layers: [0, 1], pairs: same, choose: {choose}}}\n"
    message = refusal(text)
    assert message.startswith(", line 7: layer_search.choose.")
    assert words in message


SEARCH = "layer_search: {sender_layers: [0, 1], pairs: same}\n"


def test_text_metrics_need_text() -> None:
    text = PRIVATE + "decode: false\n" + SEARCH.replace("same}", "same, choose: {metric: METRIC}}")
    assert "needs text, and decode is false" in refusal(text.replace("METRIC", "exact_match"))
    assert parsed(text.replace("METRIC", "gold_logprob")).layer_search


@pytest.mark.parametrize(
    "translators", ["{42: a, 123: b, 456: c}", "{sets: {one: {42: a, 123: b, 456: c}}}"]
)
def test_files_belong_to_one_pair_of_layers(translators: str) -> None:
    message = refusal(BASE + f"translators: {translators}\nconditions: private\n" + SEARCH)
    assert "translators: a was fitted at one pair of layers and cannot be searched over" in message


def test_nothing_to_choose_among() -> None:
    message = refusal(BASE + "conditions: [no_inject, b_to_b_self_inject]\n" + SEARCH)
    assert "no condition writes translated states or the sender's own" in message


def test_a_floor_to_compare_with() -> None:
    message = refusal(BASE + FIT + "conditions: [private_last, skyline]\n" + SEARCH)
    assert "conditions: question_only is missing" in message


def test_two_prompts_are_no_choice_of_layers() -> None:
    conditions = "conditions: [no_inject, replace, question_only, private_last]\n"
    assert "the choice would be of the prompt" in refusal(BASE + FIT + conditions + SEARCH)
