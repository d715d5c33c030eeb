"""Attention over prompts that lanes share equals attention over a copy for each lane."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import nnsight
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import DynamicCache
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from statebridge.engine.decoding.lane_attention import NAME, attend, attends_by_lane, lane_attention
from statebridge.engine.decoding.lane_cache import LaneCache
from statebridge.engine.decoding.lane_grid import LaneGrid
from statebridge.engine.decoding.lanes import DecodingSettings, prefill
from statebridge.engine.decoding.steps import decode_lanes
from statebridge.engine.executors import shared_path
from statebridge.models.token_batch import TokenBatch
from statebridge.models.traced_model import TracedModel
from tests.bridge.engine.tiny_experiment import (
    dataset_rows,
    engine_pair,
    llama_pair,
    neox_pair,
    random_translator,
    run_engine,
)
from tests.tiny_models import mixed_rows, tiny_gpt2, tiny_tokenizer

CPU = torch.device("cpu")
HEADS, PER_HEAD, WIDTH, PROMPT = 2, 3, 4, 5


def _draw(seed: int, *shape: int) -> torch.Tensor:
    # Float64, so that the order of a sum shows far below the tolerance.
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(rows=st.lists(st.integers(0, 4), min_size=1, max_size=12), count=st.integers(1, 3))
def test_a_grid_gives_back_what_it_spread(rows: list[int], count: int) -> None:
    grid = LaneGrid.of(rows, 5, CPU)
    lanes = _draw(0, len(rows), HEADS, count, WIDTH)
    spread = grid.spread(lanes)
    assert spread.shape == (5, HEADS, grid.places * count, WIDTH)
    assert torch.equal(grid.gather(spread), lanes)
    for row in set(rows):
        own = lanes[[lane for lane, of in enumerate(rows) if of == row]]
        # Lane by lane along the third dimension, in the order of the lanes.
        wanted = own.transpose(0, 1).reshape(HEADS, -1, WIDTH)
        assert torch.equal(spread[row, :, : wanted.shape[1]], wanted)


@settings(max_examples=60)
@given(data=st.data())
def test_shared_prompts_equal_copied_ones(data: st.DataObject) -> None:
    draw = data.draw
    rows = draw(st.lists(st.integers(0, 3), min_size=1, max_size=9))
    padding = draw(st.lists(st.integers(0, PROMPT - 1), min_size=4, max_size=4))
    counts = draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
    mask = torch.arange(PROMPT)[None, :] >= torch.tensor(padding)[:, None]
    source = DynamicCache()
    source.update(_draw(1, 4, HEADS, PROMPT, WIDTH), _draw(2, 4, HEADS, PROMPT, WIDTH), 0)
    shared, copied = (LaneCache(1, PROMPT + sum(counts)) for _ in range(2))
    shared.share_from(source, range(1), rows, mask)
    copied.fill_from(source, range(1), rows)
    module: Any = SimpleNamespace(layer_idx=0, num_key_value_groups=PER_HEAD, is_causal=True)
    for step, count in enumerate(counts):
        lanes = len(rows)
        keys = _draw(10 + step, lanes, HEADS, count, WIDTH)
        values = _draw(20 + step, lanes, HEADS, count, WIDTH)
        query = _draw(30 + step, lanes, HEADS * PER_HEAD, count, WIDTH)
        seen = shared.layers[0].get_seq_length()
        assert seen == copied.layers[0].get_seq_length()
        causal = torch.ones((count, seen + count), dtype=torch.bool).tril(seen)
        visible = torch.nn.functional.pad(mask[rows], (0, seen + count - PROMPT), value=True)
        both = causal & visible[:, None, None, :]
        all_keys, all_values = copied.update(keys, values, 0)
        wanted, _ = sdpa_attention_forward(module, query, all_keys, all_values, both)
        found, _ = attend(module, query, *shared.update(keys, values, 0), both, lane_cache=shared)
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
        if count == 1:
            # Without sharing, a single query goes through matrix products too.
            own, _ = attend(module, query, all_keys, all_values, both, lane_cache=copied)
            torch.testing.assert_close(own, wanted, rtol=1e-12, atol=1e-12)
        if len(rows) > 1 and draw(st.booleans()):
            kept = sorted(draw(st.sets(st.integers(0, len(rows) - 1), min_size=1)))
            shared.keep(kept, CPU)
            copied.keep(kept, CPU)
            # Rows are numbered anew; the order of what stays is that of the lanes.
            rows = [rows[lane] for lane in kept]


def test_prompts_are_shared_without_a_copy() -> None:
    source = DynamicCache()
    source.update(_draw(1, 2, HEADS, PROMPT, WIDTH), _draw(2, 2, HEADS, PROMPT, WIDTH), 0)
    cache = LaneCache(1, PROMPT + 7)
    mask = torch.ones((2, PROMPT), dtype=torch.bool)
    cache.share_from(source, range(1), [0, 1] * 50, mask)
    held: Any = cache.layers[0].prompt
    assert held[0].data_ptr() == source.layers[0].keys.data_ptr()
    keys, _ = cache.update(_draw(3, 100, HEADS, 1, WIDTH), _draw(4, 100, HEADS, 1, WIDTH), 0)
    # A lane's own buffer has room for its new tokens and for no prompt.
    assert keys.untyped_storage().nbytes() == 100 * HEADS * 7 * WIDTH * 8


@pytest.mark.parametrize("pair", [neox_pair, llama_pair])
def test_shared_prompts_change_no_lane(pair: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fields: dict[str, Any] = {
        "conditions": ["no_inject", "replace", "same_norm_random"],
        "decoding": {"max_new_tokens": 9},
    }
    oracle = pair(torch.float64)
    widths = oracle.sender.config.hidden_size, oracle.receiver.config.hidden_size
    translators = {42: random_translator(*widths, seed=42, dtype=torch.float64)}
    rows = dataset_rows(mixed_rows(5, seed=3))
    shared = run_engine(engine_pair(oracle), rows, translators, **fields).rows
    calls: list[int] = []
    fill = LaneCache.fill_from

    def noted(self: Any, *args: Any) -> None:
        calls.append(1)
        fill(self, *args)

    monkeypatch.setattr(shared_path, "attends_by_lane", lambda _: False)
    monkeypatch.setattr(LaneCache, "fill_from", noted)
    copied = run_engine(engine_pair(oracle), rows, translators, **fields).rows
    assert calls
    for key, row in copied.items():
        assert shared[key].token_ids == row.token_ids
        assert shared[key].gold_logprob == pytest.approx(row.gold_logprob, abs=1e-10)


def test_the_models_own_attention_is_back_after_an_error() -> None:
    receiver = engine_pair(neox_pair()).receiver
    cache = LaneCache(len(receiver.block_paths), 4)
    inside: list[str] = []

    def fail() -> None:
        with lane_attention(receiver, cache):
            inside.append(receiver.module.config._attn_implementation)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert inside == [NAME]
    assert receiver.module.config._attn_implementation == "sdpa"


def test_half_precision_and_windows_keep_the_models_attention() -> None:
    receiver = engine_pair(neox_pair()).receiver
    assert attends_by_lane(receiver)
    receiver.module.config.sliding_window = 5
    assert not attends_by_lane(receiver)
    assert not attends_by_lane(engine_pair(neox_pair(torch.bfloat16)).receiver)


@pytest.mark.parametrize("look_every", [1, 3, 50])
def test_looking_at_finished_lanes_less_often_changes_no_token(look_every: int) -> None:
    module = tiny_gpt2(11, layers=2, hidden=16, heads=2, vocab=12, end_share=0.6)
    words = tiny_tokenizer()
    nnsight_model = nnsight.TransformersModel(module, task="text-generation", tokenizer=words)
    model = TracedModel.wrap(nnsight_model, words, 0)
    prompts = [[1 + (place * step) % 11 for step in range(1 + place)] for place in range(12)]
    chosen = DecodingSettings(24, 1.3, 0)

    def decode(**more: Any) -> list[list[int]]:
        lanes = prefill(model, TokenBatch.pack(prompts, model.pad_id), 24)
        return decode_lanes(model, lanes, chosen, **more)

    found = decode(look_every=look_every)
    # At different steps, or nothing would be retired in between.
    assert len(set(map(len, found))) > 2
    assert found == decode()
