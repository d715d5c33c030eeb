"""On a GPU: captured steps give the tokens of the dynamic step and of the oracle on the CPU."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from statebridge.engine.cuda_graphs.hold import WARM_UP, give_back, held_for
from statebridge.engine.decoding.lanes import DecodingSettings, Prefilled, prefill
from statebridge.engine.decoding.sampling import Draws
from statebridge.engine.decoding.steps import decode_lanes
from statebridge.models.token_batch import TokenBatch, to_device, to_host
from statebridge.models.traced_model import TracedModel
from tests.bridge.engine.cuda_graphs.taped_steps import traced
from tests.bridge.engine.tiny_experiment import (
    dataset_rows,
    engine_pair,
    neox_pair,
    random_translator,
    run_engine,
)
from tests.reference.oracle import OraclePair, run_cell
from tests.tiny_models import mixed_rows, tiny_gpt2, tiny_llama, tiny_neox

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="a CUDA graph is captured on an NVIDIA GPU; none here"
)

NEW = 24
SETTINGS = DecodingSettings(NEW, 1.3, 3)
PROMPTS = [[5, 6, 7, 8, 7, 8], [9, 3, 9], [4, 4, 4, 4, 4], [11], [2, 3]]
SHAPE: dict[str, Any] = {"layers": 3, "hidden": 48, "heads": 4, "vocab": 40, "end_share": 0.7}
FAMILIES = {"neox": tiny_neox, "llama": tiny_llama, "gpt2": tiny_gpt2}


def _on_gpu(family: str, dtype: torch.dtype = torch.float32) -> TracedModel:
    return traced(FAMILIES[family](3, **SHAPE).to(device="cuda", dtype=dtype))


def _lanes(model: TracedModel, prompts: list[list[int]] = PROMPTS) -> Prefilled:
    return prefill(model, TokenBatch.pack(prompts, model.pad_id, model.device), NEW)


@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_captured_step_gives_the_tokens_of_the_dynamic_step(family: str, sampled: bool) -> None:
    model = _on_gpu(family)
    uniforms = torch.rand((len(PROMPTS), NEW), dtype=torch.float64, device="cuda")
    draws = Draws(0.9, 0.8, uniforms) if sampled else None
    expected = decode_lanes(model, _lanes(model), SETTINGS, draws=draws, step="dynamic")
    assert decode_lanes(model, _lanes(model), SETTINGS, draws=draws, step="static") == expected
    # The second group uses the graph of the first.
    for _ in range(2):
        assert decode_lanes(model, _lanes(model), SETTINGS, draws=draws) == expected
    hold = held_for(model)
    assert not hold.refused
    assert hold.recorded >= 1
    give_back()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_replays_run_no_python(dtype: torch.dtype) -> None:
    model = _on_gpu("neox", dtype)
    calls: list[int] = []
    handle = model.module.gpt_neox.layers[0].register_forward_pre_hook(lambda *_: calls.append(1))
    try:
        prompts = [[5, 6, 7]]
        decode_lanes(model, _lanes(model, prompts), SETTINGS, look_every=100)
        # The prefill, the steps that warm up, and the capture; no replay calls Python.
        assert len(calls) == 1 + WARM_UP + 1
        calls.clear()
        decode_lanes(model, _lanes(model, prompts), SETTINGS, look_every=100)
        assert len(calls) == 1
    finally:
        handle.remove()
        give_back()


def test_an_experiment_equals_the_oracle_on_the_cpu() -> None:
    oracle = neox_pair()
    there = OraclePair(
        copy.deepcopy(oracle.sender).cuda(),
        copy.deepcopy(oracle.receiver).cuda(),
        oracle.sender_layer,
        oracle.receiver_layer,
        oracle.tokenizer,
    )
    translator = random_translator(24, 32, seed=42)
    rows, lengths = mixed_rows(12, seed=5), {"max_new_tokens": 32}
    found = run_engine(
        engine_pair(there),
        dataset_rows(rows),
        {42: copy.deepcopy(translator).cuda()},
        conditions=["no_inject", "best_alpha"],
        rng="published",
        decoding=lengths,
    ).rows
    for condition, seed in (("no_inject", None), ("best_alpha", 42)):
        name = condition if seed is None else f"{condition}/seed{seed}"
        for row in run_cell(oracle, rows, condition, seed, translator, gold=False, **lengths):
            assert found[name, row.row_id].token_ids == row.token_ids
    give_back()


def test_memory_is_given_back() -> None:
    model = _on_gpu("llama")
    decode_lanes(model, _lanes(model), SETTINGS)
    held = torch.cuda.memory_allocated()
    assert held_for(model).bytes > 0
    give_back()
    assert torch.cuda.memory_allocated() < held


def test_transfers_by_pinned_memory_change_no_value() -> None:
    values = torch.arange(10_000).view(100, 100)
    there = to_device(values, "cuda")
    assert there.device.type == "cuda"
    back = to_host(there)
    assert back.is_pinned()
    assert torch.equal(back, values)
