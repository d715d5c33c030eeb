"""Every supported architecture: blocks found, states right, both paths equal to the oracle."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import nnsight
import pytest
import torch

from statebridge.models.families import FAMILIES as KNOWN
from statebridge.models.families import find_blocks
from statebridge.models.token_batch import TokenBatch
from statebridge.models.traced_model import TracedModel
from tests.bridge.engine.tiny_experiment import (
    dataset_rows,
    engine_pair,
    random_translator,
    run_engine,
)
from tests.reference.oracle import OraclePair, run_cell
from tests.tiny_models import (
    mixed_rows,
    tiny_gemma,
    tiny_gpt2,
    tiny_llama,
    tiny_neox,
    tiny_qwen,
    tiny_tokenizer,
)

SHAPE: dict[str, Any] = {"layers": 3, "hidden": 32, "heads": 4}
# The windows are shorter than most prompts, and 2 and 3 blocks deep attention differs in kind.
SLIDING: dict[str, Any] = {"sliding_window": 5}
FAMILIES: dict[str, tuple[str, Callable[..., Any]]] = {
    "gpt_neox": ("gpt_neox.layers", tiny_neox),
    "llama": ("model.layers", tiny_llama),
    "gpt2": ("transformer.h", tiny_gpt2),
    "gpt2-tied": (
        "transformer.h",
        lambda seed, **k: tiny_gpt2(seed, tie_word_embeddings=True, **k),
    ),
    "qwen2": ("model.layers", lambda seed, **k: tiny_qwen(seed, version=2, **k)),
    "qwen2-sliding": (
        "model.layers",
        lambda seed, **k: tiny_qwen(
            seed, version=2, use_sliding_window=True, max_window_layers=1, **SLIDING, **k
        ),
    ),
    "qwen3": ("model.layers", lambda seed, **k: tiny_qwen(seed, version=3, **k)),
    "gemma2": ("model.layers", lambda seed, **k: tiny_gemma(seed, version=2, **SLIDING, **k)),
    "gemma3": (
        "model.layers",
        lambda seed, **k: tiny_gemma(
            seed,
            version=3,
            layer_types=["sliding_attention", "full_attention", "sliding_attention"],
            **SLIDING,
            **k,
        ),
    ),
}
ROWS = mixed_rows(5, seed=4)
DECODING = {"max_new_tokens": 7, "relay_max_new_tokens": 4}
CELLS: tuple[tuple[str, int | None], ...] = (
    ("no_inject", None),
    ("nl_relay", None),
    ("best_alpha", 42),
    ("same_norm_random", 42),
)


@cache
def _model(family: str, seed: int) -> Any:
    return FAMILIES[family][1](seed, **SHAPE).to(_dtype(family))


@cache
def _sender(dtype: torch.dtype) -> Any:
    return tiny_neox(3, **{**SHAPE, "layers": 2}).to(dtype)


def _dtype(family: str) -> torch.dtype:
    # Float64: a near tie cannot turn over by the order of a sum. Gemma 2's softmax (eager
    # attention) is float32 in any case, where float64's mask becomes -inf and pads NaN.
    return torch.float32 if family == "gemma2" else torch.float64


def _close(family: str) -> float:
    """Tolerance of sums taken in another order: float64, float32."""
    return 1e-10 if _dtype(family) == torch.float64 else 1e-4


def _traced(module: Any, layer: int) -> TracedModel:
    model = nnsight.TransformersModel(module, task="text-generation", tokenizer=tiny_tokenizer())
    return TracedModel.wrap(model, tiny_tokenizer(), layer)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_blocks_are_found_and_captured_right(family: str) -> None:
    module = _model(family, 1)
    path = FAMILIES[family][0]
    assert find_blocks(module) == [f"{path}.{i}" for i in range(3)]
    prompt = torch.randint(2, 421, (17,), generator=torch.Generator().manual_seed(0)).tolist()
    with torch.no_grad():
        hidden = module(torch.tensor([prompt]), output_hidden_states=True).hidden_states
    traced = _traced(module, 0)
    assert traced.width == 32
    batch = TokenBatch.pack([prompt, prompt[:4]], traced.pad_id)
    for layer in range(3):
        states = traced.at_layer(layer).capture(batch)
        alone = traced.at_layer(layer).capture(TokenBatch.pack([prompt], 0))
        if layer < 2:
            assert torch.equal(alone, hidden[layer + 1])
        else:
            assert not torch.allclose(alone, hidden[-1], rtol=0.01)
            norm = next(
                module.get_submodule(name)
                for name in ("gpt_neox.final_layer_norm", "model.norm", "transformer.ln_f")
                if name.split(".")[0] == path.split(".")[0]
            )
            assert torch.equal(norm(alone), hidden[-1])
        close = _close(family)
        torch.testing.assert_close(states[0], alone[0], rtol=close, atol=close)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_both_paths_equal_the_oracle(family: str) -> None:
    pair = OraclePair(
        sender=_sender(_dtype(family)),
        receiver=_model(family, 2),
        sender_layer=1,
        receiver_layer=1,
        tokenizer=tiny_tokenizer(),
    )
    translators = {42: random_translator(32, 32, seed=42, dtype=_dtype(family))}
    conditions = [condition for condition, _ in CELLS]
    found = {
        path: run_engine(
            engine_pair(pair),
            dataset_rows(ROWS),
            translators,
            conditions=conditions,
            rng="published",
            decoding=DECODING,
            execution={"path": path},
        ).rows
        for path in ("shared", "plain")
    }
    for condition, seed in CELLS:
        name = condition if seed is None else f"{condition}/seed{seed}"
        for row in run_cell(pair, ROWS, condition, seed, translators[42], **DECODING):
            for path, rows in found.items():
                got = rows[name, row.row_id]
                assert got.token_ids == row.token_ids, (path, name, row.row_id)
                assert got.gold_rank == row.gold_rank
                assert got.gold_logprob == pytest.approx(row.gold_logprob, rel=_close(family))


def test_each_familys_states_are_the_same_alone_and_in_a_group() -> None:
    for family in FAMILIES:
        sender = _traced(_model(family, 1), 1)
        prompts = [[5, 6, 7, 8, 9, 10, 11, 12], [9], [7, 8, 9]]
        together = sender.capture(TokenBatch.pack(prompts, sender.pad_id))
        for row, prompt in enumerate(prompts):
            alone = sender.capture(TokenBatch.pack([prompt], sender.pad_id))[0]
            torch.testing.assert_close(
                together[row, -len(prompt) :], alone, rtol=_close(family), atol=_close(family)
            )


@pytest.mark.slow
def test_a_checkpoints_generation_config_changes_nothing() -> None:
    """Real checkpoints ask for sampling, penalties and several end tokens of their own."""
    receiver = _model("llama", 5)
    config = receiver.generation_config
    before = config.to_dict()
    config.update(
        do_sample=True,
        temperature=0.6,
        top_p=0.9,
        top_k=3,
        repetition_penalty=1.7,
        no_repeat_ngram_size=2,
        max_new_tokens=3,
        num_beams=1,
        eos_token_id=[0, 300, 301],
    )
    pair = OraclePair(_sender(torch.float64), receiver, 1, 1, tiny_tokenizer())
    try:
        runs = [
            run_engine(
                engine_pair(pair),
                dataset_rows(ROWS),
                {},
                conditions=["no_inject"],
                decoding=DECODING,
                execution={"path": path},
            ).rows
            for path in ("shared", "plain")
        ]
    finally:
        config.update(**before)
    expected = run_cell(pair, ROWS, "no_inject", None, None, gold=False, **DECODING)
    for row in expected:
        tokens = list(row.token_ids or ())
        end = next((i for i, token in enumerate(tokens) if token in (0, 300, 301)), len(tokens))
        for found in runs:
            assert found["no_inject", row.row_id].token_ids == tuple(tokens[: end + 1])


def test_the_table_of_families_is_the_one_tested() -> None:
    tested = {str(_model(family, 1).config.model_type) for family in FAMILIES}
    # Mistral and Gemma 1 share Llama's and Gemma 2's layout.
    assert set(KNOWN) - tested == {"mistral", "gemma"}
