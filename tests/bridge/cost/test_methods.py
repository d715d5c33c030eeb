from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any, get_args

import pytest

import statebridge.cost
from statebridge.cost import (
    LLAMA_3_1_8B,
    LLAMA_3_2_3B,
    Accounting,
    ComputeRatio,
    Ledger,
    Lengths,
    MethodCost,
    ModelShape,
    compute_ratios,
    exact_forward,
    exact_partial,
    published_forward,
    published_partial,
)
from statebridge.errors import InputError
from tests.bridge.data.refusal import refused

A = ModelShape(4, 12, 3, 3, 4, 48, gated=False, vocabulary=50, tied=False)
B = ModelShape(6, 16, 4, 2, 4, 40, gated=True, vocabulary=70, tied=True)
LENGTHS = Lengths(sender_prompt=9, receiver_prompt=7, answer=5, message=4)


def test_published_without_a_cache_is_the_papers_arithmetic() -> None:
    ledger = Ledger(A, B, "published", cache=False)
    assert ledger.silent(LENGTHS) == MethodCost(0, 5 * published_forward(B, 7))
    assert ledger.skyline(LENGTHS) == MethodCost(0, 5 * published_forward(B, 16))
    assert ledger.text(LENGTHS) == MethodCost(
        4 * published_forward(A, 9), 5 * published_forward(B, 7 + 4)
    )
    assert ledger.activation(LENGTHS, 2) == MethodCost(
        published_partial(A, 9, 2), 5 * published_forward(B, 7)
    )


def test_exact_with_and_without_a_cache() -> None:
    def grown(shape: ModelShape, prompt: int, new: int) -> int:
        return sum(exact_forward(shape, prompt + done) for done in range(new))

    def stepped(shape: ModelShape, prompt: int, new: int) -> int:
        steps = sum(exact_forward(shape, 1, prompt + done) for done in range(new - 1))
        return exact_forward(shape, prompt) + steps

    for cache, passes in ((True, stepped), (False, grown)):
        ledger = Ledger(A, B, "exact", cache)
        assert ledger.text(LENGTHS) == MethodCost(passes(A, 9, 4), passes(B, 11, 5))
        assert ledger.activation(LENGTHS, 3) == MethodCost(exact_partial(A, 9, 3), passes(B, 7, 5))


@pytest.mark.parametrize("accounting", get_args(Accounting))
def test_one_new_token_needs_no_cache(accounting: Accounting) -> None:
    one = Lengths(9, 7, answer=1, message=1)
    with_cache, without = (Ledger(A, B, accounting, cache) for cache in (True, False))
    assert with_cache.text(one) == without.text(one)
    assert with_cache.debate(one) == without.debate(one)


def test_a_cache_never_costs_more_and_methods_are_in_order() -> None:
    for accounting, cache in itertools.product(get_args(Accounting), (True, False)):
        ledger = Ledger(B, B, accounting, cache)
        silent, text = ledger.silent(LENGTHS), ledger.text(LENGTHS)
        activation, debate = ledger.activation(LENGTHS, 2), ledger.debate(LENGTHS)
        assert silent.total < activation.total < text.total < debate.total
        assert ledger.debate(LENGTHS, rounds=3).total > debate.total
        cached = Ledger(B, B, accounting, True)
        assert cached.debate(LENGTHS).total <= debate.total


@pytest.mark.parametrize("cache", [True, False])
def test_keys_and_values_are_counted_block_by_block(cache: bool) -> None:
    def forward(tokens: int, past: int) -> int:
        one = replace(B, layers=1)
        blocks = sum(exact_partial(one, tokens, 0, 9 if b in (0, 4) else 1) for b in range(6))
        # What is in every block beside the message: the receiver's earlier tokens.
        return blocks + 6 * 4 * tokens * past * 16 + 2 * 16 * 70

    found = Ledger(A, B, "exact", cache).key_values(replace(LENGTHS, message=0), 9, whole=2)
    steps = (
        (forward(1, 7 + i) for i in range(4)) if cache else (forward(8 + i, 0) for i in range(4))
    )
    assert found == MethodCost(exact_partial(A, 9, 3), forward(7, 0) + sum(steps))


def test_no_positions_are_silent_and_latent_steps_the_senders() -> None:
    for accounting, cache in itertools.product(get_args(Accounting), (True, False)):
        ledger = Ledger(A, B, accounting, cache)
        nothing = ledger.key_values(replace(LENGTHS, message=0), 0)
        assert nothing.receiver == ledger.silent(LENGTHS).total
        latent = ledger.key_values(replace(LENGTHS, message=3), 0).sender - nothing.sender
        partial = published_partial if accounting == "published" else exact_partial
        assert latent == sum(partial(A, 1, 3, past) for past in (9, 10, 11))


def test_debate_by_hand() -> None:
    ledger = Ledger(A, B, "published", cache=False)
    sender = 4 * published_forward(A, 9) + 5 * published_forward(A, 9 + 8)
    receiver = 4 * published_forward(B, 7) + 5 * published_forward(B, 7 + 8)
    assert ledger.debate(LENGTHS) == MethodCost(sender, receiver)
    alone = ledger.debate(LENGTHS, rounds=1)
    assert alone == MethodCost(5 * published_forward(A, 9), 5 * published_forward(B, 7))


def test_combinations() -> None:
    ledger = Ledger(A, B)
    found = {
        name: ledger.activation(LENGTHS, 0, name).combination
        for name in get_args(statebridge.cost.Combination)
    }
    assert found == {"replace": 0, "sum": 12, "mean": 24, "learned": 2 * 12 * 16}
    cost = ledger.activation(LENGTHS, 0, "learned")
    assert cost.total == cost.sender + cost.receiver + 384


def test_the_skyline_prompt_may_be_given() -> None:
    own = Lengths(9, 7, 5, skyline_prompt=7)
    assert Ledger(A, B).skyline(own) == Ledger(A, B).silent(own)


def ratio(
    found: list[ComputeRatio], accounting: Accounting, cache: bool, baseline: str = "text"
) -> float:
    (one,) = (
        r for r in found if (r.accounting, r.cache, r.baseline) == (accounting, cache, baseline)
    )
    return one.ratio


@pytest.mark.parametrize("shape", [LLAMA_3_2_3B, LLAMA_3_1_8B])
def test_less_than_a_quarter_of_the_compute_needs_no_cache(shape: ModelShape) -> None:
    """A Tip-Sheets-like row: a note of 100 tokens, a message of 60, an answer of 10."""
    lengths = Lengths(sender_prompt=100, receiver_prompt=30, answer=10, message=60)
    found = compute_ratios(shape, shape, lengths, layer=26)
    assert len(found) == 8
    for accounting in get_args(Accounting):
        assert ratio(found, accounting, cache=False) < 0.25
        assert ratio(found, accounting, cache=True) > 0.4
        # Against a debate the claim holds either way: that is four answers, not two.
        assert ratio(found, accounting, cache=True, baseline="debate") < 0.25
    ledger = Ledger(shape, shape, "exact", cache=True)
    expected = ledger.activation(lengths, 26).total / ledger.text(lengths).total
    assert ratio(found, "exact", cache=True) == expected


@pytest.mark.parametrize(
    ("lengths", "problem"),
    [
        ({"sender_prompt": 0}, "sender_prompt is 0; it must be 1 or more"),
        ({"receiver_prompt": -1}, "receiver_prompt is -1"),
        ({"answer": 0}, "answer is 0"),
        ({"message": -1}, "message is -1; it must be 0 or more"),
        ({"skyline_prompt": 0}, "skyline_prompt is 0"),
    ],
)
def test_wrong_lengths(lengths: dict[str, Any], problem: str) -> None:
    good = {"sender_prompt": 9, "receiver_prompt": 7, "answer": 5}
    with refused(InputError, problem):
        Lengths(**{**good, **lengths})


def test_other_refusals() -> None:
    with refused(InputError, "rounds is 0"):
        Ledger(A, B).debate(LENGTHS, rounds=0)
    with refused(InputError, "layer 4", "blocks 0 to 3"):
        Ledger(A, B).activation(LENGTHS, 4)
    with refused(InputError, "a text baseline needs a message"):
        compute_ratios(A, B, Lengths(9, 7, 5), 2)


def test_public_names() -> None:
    assert sorted(statebridge.cost.__all__) == [
        "Accounting",
        "Combination",
        "ComputeRatio",
        "DTYPE_BYTES",
        "LLAMA_3_1_8B",
        "LLAMA_3_2_3B",
        "Ledger",
        "Lengths",
        "MapCost",
        "MethodCost",
        "ModelShape",
        "activation_bytes",
        "compute_ratios",
        "exact_forward",
        "exact_partial",
        "map_cost",
        "published_forward",
        "published_partial",
        "text_bytes",
        "token_bytes",
    ]
    for name in statebridge.cost.__all__:
        assert hasattr(statebridge.cost, name)
