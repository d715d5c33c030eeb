"""Whatever the prompts and settings, a group's tokens are those of each row alone.

Models are float64, so that no near tie turns over by the order in which a sum is taken
(scores are compared in float32, as Hugging Face compares them).
"""

from __future__ import annotations

from functools import cache
from typing import Any

import nnsight
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from statebridge.engine.decoding.lanes import DecodingSettings, prefill
from statebridge.engine.decoding.steps import decode_lanes
from statebridge.models.token_batch import TokenBatch
from statebridge.models.traced_model import TracedModel
from tests.bridge.engine.tiny_experiment import (
    dataset_rows,
    engine_pair,
    random_translator,
    run_engine,
)
from tests.reference.decoding import generate
from tests.reference.oracle import DETERMINISTIC, OraclePair, run_cell
from tests.tiny_models import mixed_rows, tiny_gpt2, tiny_llama, tiny_neox, tiny_tokenizer

SMALL = 12
"""Vocabulary of the model that decodes random ids: repeats and bans are the rule."""
DEPTH = 3

prompts = st.lists(
    st.lists(st.integers(0, SMALL - 1), min_size=1, max_size=14), min_size=1, max_size=6
)
penalties = st.sampled_from([1.0, 0.4, 0.95, 1.1, 1.3, 3.0])


@cache
def _small() -> TracedModel:
    # Learned positions: a lane that takes another lane's place in its text shows at once.
    module = tiny_gpt2(11, layers=2, hidden=16, heads=2, vocab=SMALL, end_share=0.6)
    model = nnsight.TransformersModel(
        module.to(torch.float64), task="text-generation", tokenizer=tiny_tokenizer()
    )
    return TracedModel.wrap(model, tiny_tokenizer(), 0)


@pytest.mark.slow
@settings(max_examples=40)
@given(prompts=prompts, penalty=penalties, size=st.integers(0, 5), new_tokens=st.integers(1, 12))
@example(prompts=[[0]], penalty=1.3, size=3, new_tokens=12)
@example(prompts=[[5], [0] * 9], penalty=0.4, size=1, new_tokens=12)
# More new tokens than there are words: at size 1 everything is banned in the end.
@example(prompts=[[5], [3, 3]], penalty=1.0, size=1, new_tokens=20)
def test_random_ids_decode_as_each_row_alone(
    prompts: list[list[int]], penalty: float, size: int, new_tokens: int
) -> None:
    model = _small()
    chosen = DecodingSettings(new_tokens, penalty, size)
    batch = TokenBatch.pack(prompts, model.pad_id)
    found = decode_lanes(model, prefill(model, batch, new_tokens), chosen)
    for prompt, tokens in zip(prompts, found, strict=True):
        assert tokens == generate(
            model.module,
            prompt,
            end=0,
            max_new_tokens=new_tokens,
            repetition_penalty=penalty,
            no_repeat_ngram_size=size,
        )


@cache
def _pair(receiver: str, sender_layer: int, receiver_layer: int) -> OraclePair:
    return OraclePair(
        _model("llama", 1, 24),
        _model(receiver, 2, 16),
        sender_layer,
        receiver_layer,
        tiny_tokenizer(),
    )


@cache
def _model(family: str, seed: int, hidden: int) -> Any:
    build = {"neox": tiny_neox, "llama": tiny_llama, "gpt2": tiny_gpt2}[family]
    return build(seed, layers=DEPTH, hidden=hidden, heads=2).to(torch.float64)


@pytest.mark.slow
@settings(max_examples=12)
@given(data=st.data())
def test_random_experiments_equal_the_oracle(data: st.DataObject) -> None:
    draw = data.draw
    layers = st.integers(0, DEPTH - 1)
    pair = _pair(draw(st.sampled_from(["neox", "llama", "gpt2"])), draw(layers), draw(layers))
    decoding = {
        "max_new_tokens": draw(st.integers(1, 8)),
        "relay_max_new_tokens": draw(st.integers(1, 8)),
        "repetition_penalty": draw(penalties),
        "no_repeat_ngram_size": draw(st.integers(0, 5)),
        # 1 makes every prompt a single token; a small one gives them all one length.
        "max_prompt_tokens": draw(st.sampled_from([1, 2, 13, 24, 256])),
    }
    condition = draw(
        st.sampled_from(
            [
                "no_inject",
                "nl_relay",
                "b_to_b_self_inject",
                "zero_replacement",
                "additive",
                "replace",
                "best_alpha",
                "same_norm_random",
                "shuffled_translation",
                "shuffled_translation_strict_matched",
            ]
        )
    )
    seed = None if condition in DETERMINISTIC else 42
    name = condition if seed is None else f"{condition}/seed{seed}"
    rows = mixed_rows(8, seed=draw(st.integers(0, 20)))
    translator = random_translator(24, 16, seed=42, dtype=torch.float64)
    found = run_engine(
        engine_pair(pair),
        dataset_rows(rows),
        {42: translator},
        rows_together=draw(st.sampled_from([1, 2, 3, 5, 64])),
        conditions=[condition],
        rng="published",
        decoding=decoding,
    ).rows
    expected = run_cell(pair, rows, condition, seed, translator, **decoding)
    assert set(found) == {(name, row.row_id) for row in expected}
    for row in expected:
        got = found[name, row.row_id]
        assert got.token_ids == row.token_ids
        assert got.relay == row.relay
        assert got.gold_rank == row.gold_rank
        assert got.gold_token_count == row.gold_token_count
        assert got.prompt_len_receiver == row.prompt_len_receiver
        # Float64 sums in another order.
        assert row.gold_logprob is not None
        assert got.gold_logprob is not None
        assert abs(got.gold_logprob - row.gold_logprob) < 1e-9
        assert abs((got.kl_from_no_inject or 0) - (row.kl_from_no_inject or 0)) < 1e-9
