"""The hooks read and write what is called layer L, and leave nothing behind."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.reference.decoding import encode, generate
from tests.reference.formulas import task_prompt
from tests.reference.hooks import blocks, capture, reading, relative_layer, writing
from tests.reference.tiny_pairs import PLAIN, ROWS, cell, pair
from tests.tiny_models import (
    tiny_gemma,
    tiny_gpt2,
    tiny_llama,
    tiny_neox,
    tiny_qwen,
    tiny_tokenizer,
)


@pytest.mark.parametrize(
    ("build", "norm"),
    [
        (tiny_neox, "gpt_neox.final_layer_norm"),
        (tiny_llama, "model.norm"),
        (tiny_qwen, "model.norm"),
        (tiny_gemma, "model.norm"),
        (tiny_gpt2, "transformer.ln_f"),
    ],
)
def test_a_layer_is_a_blocks_output_without_the_final_norm(build: Any, norm: str) -> None:
    model = build(0)
    ids = encode(tiny_tokenizer(), task_prompt(ROWS[0]))
    with torch.no_grad():
        output = model(input_ids=torch.tensor([ids]), output_hidden_states=True)
    last = len(blocks(model)) - 1
    for layer in range(last):
        assert torch.equal(capture(model, layer, ids), output.hidden_states[layer + 1])
    state = capture(model, last, ids)
    assert not torch.allclose(state, output.hidden_states[-1])
    assert torch.equal(model.get_submodule(norm)(state), output.hidden_states[-1])


def test_relative_layers_are_the_published_ones() -> None:
    assert relative_layer(0.67, 12) == 8
    assert relative_layer(0.67, 24) == 16
    assert relative_layer(1.0, 12) == 11


def test_only_the_prefill_is_written_and_one_token_prompts_too() -> None:
    model = pair("neox").receiver
    for length in (1, 2, 9):
        ids = encode(tiny_tokenizer(), task_prompt(ROWS[3]), length)
        state = torch.randn(1, length, 48)
        with reading(blocks(model)[1]) as own, writing(blocks(model)[1], state):
            seen: list[Tensor] = []
            handle = blocks(model)[2].register_forward_pre_hook(
                lambda _, inputs, seen=seen: seen.append(inputs[0])
            )
            generate(model, ids, max_new_tokens=5, **PLAIN)
            handle.remove()
        assert torch.equal(seen[0], state)
        assert not torch.equal(own[0], state)
        assert len(seen) > 1
        assert all(torch.equal(a, b) for a, b in zip(own[1:], seen[1:], strict=True))


def test_writing_equals_cached_decoding_after_an_edited_prefill() -> None:
    of = pair("llama", torch.float64)
    ids = encode(of.tokenizer, task_prompt(ROWS[8]))
    h = capture(of.receiver, of.receiver_layer, ids)
    state = 2 * h + 1
    with writing(blocks(of.receiver)[of.receiver_layer], state):
        tokens = generate(
            of.receiver,
            ids,
            end=0,
            max_new_tokens=20,
            repetition_penalty=1.0,
            no_repeat_ngram_size=0,
        )
    expected: list[int] = []
    with torch.no_grad():
        with writing(blocks(of.receiver)[of.receiver_layer], state):
            output = of.receiver(input_ids=torch.tensor([ids]), use_cache=True)
        while True:
            expected.append(int(output.logits[0, -1].argmax()))
            if len(expected) == 20 or expected[-1] == 0:
                break
            output = of.receiver(
                input_ids=torch.tensor([expected[-1:]]),
                past_key_values=output.past_key_values,
                use_cache=True,
            )
    assert tokens == expected
    untouched = generate(
        of.receiver, ids, end=0, max_new_tokens=20, repetition_penalty=1.0, no_repeat_ngram_size=0
    )
    assert tokens != untouched


def test_nothing_is_left_behind_after_an_exception() -> None:
    of = pair("neox")
    block = blocks(of.receiver)[of.receiver_layer]
    before = cell(of, "no_inject", ROWS[:4])
    too_wide = torch.zeros(1, 5, of.receiver.config.hidden_size + 1)
    with pytest.raises(ValueError, match="cannot write"), writing(block, too_wide):
        generate(of.receiver, [5, 6, 7, 8, 9], max_new_tokens=3, **PLAIN)
    with pytest.raises(ZeroDivisionError), reading(block):
        raise ZeroDivisionError
    with pytest.raises(RuntimeError, match="nothing was written"), writing(block, too_wide):
        pass
    assert not block._forward_hooks
    assert cell(of, "no_inject", ROWS[:4]) == before
