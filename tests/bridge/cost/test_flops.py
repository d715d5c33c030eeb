"""The formulas against torch's FLOP counter, on small models of true proportions."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    PretrainedConfig,
    Qwen2Config,
)

from statebridge.cost import (
    LLAMA_3_1_8B,
    LLAMA_3_2_3B,
    Ledger,
    Lengths,
    ModelShape,
    exact_forward,
    exact_partial,
    published_forward,
    published_partial,
)
from statebridge.errors import InputError
from statebridge.models.families import shape_from_config
from tests.bridge.data.refusal import refused

TOLERANCE = 0.001
"""Measured: equal to the operation, for all five. Room for a release of transformers that
makes its rotary tables by a matrix product (head dimension a position); 2 % are asked for."""

LENGTH = 64
VOCABULARY = 1000
_COMMON: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 0,
}
_SIZES: dict[str, Any] = {"hidden_size": 128, "num_hidden_layers": 4}
# Width to MLP width as in Pythia (1 : 4) and Llama (1 : 2.7); four query heads a key head.
CONFIGS: dict[str, Callable[[], PretrainedConfig]] = {
    "gpt_neox": lambda: GPTNeoXConfig(
        **_COMMON, **_SIZES, num_attention_heads=4, intermediate_size=512
    ),
    "llama": lambda: LlamaConfig(
        **_COMMON, **_SIZES, num_attention_heads=8, num_key_value_heads=2, intermediate_size=344
    ),
    "llama_with_wide_heads": lambda: LlamaConfig(
        **_COMMON,
        **_SIZES,
        num_attention_heads=8,
        num_key_value_heads=2,
        head_dim=32,
        intermediate_size=344,
        tie_word_embeddings=True,
    ),
    "qwen2": lambda: Qwen2Config(
        **_COMMON, **_SIZES, num_attention_heads=8, num_key_value_heads=2, intermediate_size=344
    ),
    "gpt2": lambda: GPT2Config(**_COMMON, n_embd=128, n_layer=4, n_head=4, n_positions=256),
}


@functools.cache
def model(name: str, attention: str = "eager") -> Any:
    with torch.random.fork_rng():
        return AutoModelForCausalLM.from_config(
            CONFIGS[name](), attn_implementation=attention
        ).eval()


def shape(name: str) -> ModelShape:
    return shape_from_config(model(name).config.to_dict())


def prompt(length: int = LENGTH) -> torch.Tensor:
    return torch.arange(1, length + 1)[None]


def counted(work: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        work()
    return int(counter.get_total_flops())


families = pytest.mark.parametrize("name", CONFIGS)


@pytest.mark.slow
@families
@pytest.mark.parametrize("length", [1, LENGTH])
def test_a_full_pass(name: str, length: int) -> None:
    ids = prompt(length)
    every = counted(lambda: model(name)(ids, use_cache=False))
    last = counted(lambda: model(name)(ids, use_cache=False, logits_to_keep=1))
    assert exact_forward(shape(name), length, logits_at=None) == pytest.approx(every, rel=TOLERANCE)
    assert exact_forward(shape(name), length) == pytest.approx(last, rel=TOLERANCE)


@families
def test_a_step_on_a_cache(name: str) -> None:
    with torch.no_grad():
        past = model(name)(prompt(), use_cache=True).past_key_values
    work = counted(lambda: model(name)(prompt(3), past_key_values=past, use_cache=True))
    assert exact_forward(shape(name), 3, LENGTH, logits_at=None) == pytest.approx(
        work, rel=TOLERANCE
    )


@families
def test_a_partial_pass(name: str) -> None:
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        model(name)(prompt(), use_cache=False)
    counts = {name: sum(ops.values()) for name, ops in counter.get_flop_counts().items()}
    blocks = "gpt_neox.layers" if name == "gpt_neox" else "model.layers"
    blocks = "transformer.h" if name == "gpt2" else blocks
    root = type(model(name)).__name__
    for layer in range(4):
        work = sum(counts[f"{root}.{blocks}.{index}"] for index in range(layer + 1))
        assert work > 0
        assert exact_partial(shape(name), LENGTH, layer) == pytest.approx(work, rel=TOLERANCE)


@pytest.mark.slow
@families
@pytest.mark.parametrize("cache", [True, False])
def test_generation(name: str, cache: bool) -> None:
    new = 5
    work = counted(
        lambda: model(name).generate(
            prompt(),
            attention_mask=torch.ones_like(prompt()),
            max_new_tokens=new,
            min_new_tokens=new,
            do_sample=False,
            use_cache=cache,
        )
    )
    ledger = Ledger(shape(name), shape(name), "exact", cache)
    assert ledger.silent(Lengths(1, LENGTH, new)).total == pytest.approx(work, rel=TOLERANCE)


@pytest.mark.parametrize("name", ["gpt_neox", "llama"])
def test_what_the_counter_does_not_see_on_a_cpu(name: str) -> None:
    """Fused attention is not in the counter's table: that much, and no more, is missing."""
    eager = counted(lambda: model(name)(prompt(), use_cache=False))
    fused = counted(lambda: model(name, "sdpa")(prompt(), use_cache=False))
    sizes = shape(name)
    attention = 4 * LENGTH**2 * sizes.heads * sizes.head_dim * sizes.layers
    assert eager - fused in (0, attention)


TINY = ModelShape(
    layers=3,
    width=8,
    heads=2,
    kv_heads=1,
    head_dim=5,
    mlp_width=11,
    gated=True,
    vocabulary=13,
    tied=False,
)


def test_the_published_formula_term_by_term() -> None:
    n, v, d, layers, k, h, f = 7, 13, 8, 3, 5, 2, 11
    blocks = 8 * n * d * k * h + 4 * n**2 * k * h + 3 * h * n**2 + 4 * n * d * f
    assert published_forward(TINY, n) == 4 * n * v * d + layers * blocks
    assert published_partial(TINY, n, 1) == 2 * n * v * d + 2 * blocks


def test_the_published_formula_misjudges_groups_and_gates() -> None:
    # Per position, far from the quadratic terms: two parameters' worth of operations each.
    for sizes, billions in ((LLAMA_3_2_3B, 3.2), (LLAMA_3_1_8B, 8.0)):
        exact = exact_forward(sizes, 1, logits_at=None)
        embedding = sizes.vocabulary * sizes.width
        parameters = exact / 2 + (0 if sizes.tied else embedding)
        assert parameters == pytest.approx(billions * 1e9, rel=0.01)  # the public figure, rounded
        projections = 4 * sizes.width * (sizes.heads - sizes.kv_heads) * sizes.head_dim
        gate = 2 * sizes.width * sizes.mlp_width
        softmax = 3 * sizes.heads
        assert published_forward(sizes, 1) - exact == 2 * embedding + sizes.layers * (
            projections + softmax - gate
        )


sizes = st.builds(
    lambda layers, width, groups, kv_heads, head_dim, mlp_width, gated, vocabulary: ModelShape(
        layers, width, groups * kv_heads, kv_heads, head_dim, mlp_width, gated, vocabulary, False
    ),
    *[st.integers(1, 9)] * 6,
    st.booleans(),
    st.integers(1, 50),
)


@settings(max_examples=60, deadline=None)
@given(sizes, st.integers(0, 20), st.integers(0, 20))
def test_blocks_add_up_and_a_cache_saves_no_attention_to_itself(
    shape: ModelShape, first: int, second: int
) -> None:
    whole = exact_forward(shape, first + second, logits_at=0)
    parts = exact_forward(shape, first, logits_at=0) + exact_forward(
        shape, second, first, logits_at=0
    )
    # In two passes the first positions do not look at the second ones, masked as they are.
    masked = 4 * first * second * shape.heads * shape.head_dim * shape.layers
    assert whole == parts + masked
    assert whole == exact_partial(shape, first + second, shape.layers - 1)
    assert exact_forward(shape, first) <= exact_forward(shape, first, logits_at=None)


@pytest.mark.parametrize("layer", [-1, 3])
def test_layers_that_do_not_exist(layer: int) -> None:
    for partial in (exact_partial, published_partial):
        with refused(InputError, f"layer {layer}", "blocks 0 to 2"):
            partial(TINY, 4, layer)


def test_negative_counts() -> None:
    with refused(InputError, "tokens is -1"):
        exact_forward(TINY, -1)
    with refused(InputError, "past is -2"):
        published_forward(TINY, 1, -2)
    with refused(InputError, "logits_at is -1"):
        exact_forward(TINY, 1, logits_at=-1)
