"""The untaught model: a small GPT-NeoX whose attention starts near what it has to become."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

ROTARY_SHARE = 0.5
ROTARY_BASE = 100
"""Prompts are short: with the usual 10,000 half of the rotations would hardly turn."""
LOOK_BACK = (1, 3, 5, 2)
"""How many tokens back the first block's heads look at first, head by head."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Shape of a GPT-NeoX model."""

    blocks: int
    width: int
    heads: int


def new_model(shape: Shape, vocabulary: int, seed: int) -> GPTNeoXForCausalLM:
    """Return an untaught model; the same for the same seed.

    Left to itself, a model of this size takes many thousands of steps to find out that a name
    in the question is worth looking up in the context. So attention starts by looking a few
    tokens back (first block) or at tokens like the present one (the others), and by passing on
    what it finds: mimetic initialisation (arXiv 2305.09828). The feed-forward parts start as
    if absent.
    """
    config = GPTNeoXConfig(
        vocab_size=vocabulary,
        hidden_size=shape.width,
        num_hidden_layers=shape.blocks,
        num_attention_heads=shape.heads,
        intermediate_size=4 * shape.width,
        max_position_embeddings=512,
        rotary_pct=ROTARY_SHARE,
        rotary_emb_base=ROTARY_BASE,
        # With transformers' 0.02 models of this size learn several times more slowly.
        initializer_range=0.05,
        bos_token_id=0,
        eos_token_id=0,
        # An answer is a token of the prompt: with one table, copying need not be learnt per name.
        tie_word_embeddings=True,
    )
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        model = GPTNeoXForCausalLM(config)
        model.get_input_embeddings().weight.mul_(2)
        for place, block in enumerate(model.gpt_neox.layers):
            block.mlp.dense_4h_to_h.weight.zero_()
            _start_attention(block.attention, shape, first=place == 0)
    return model


def _start_attention(attention: Any, shape: Shape, *, first: bool) -> None:
    size = shape.width // shape.heads
    turning = int(size * ROTARY_SHARE)
    # Rows of the fused matrix: for each head its query, its key, its value.
    fused = attention.query_key_value
    weight = fused.weight.view(shape.heads, 3, size, shape.width)
    bias = fused.bias.view(shape.heads, 3, size)
    values = torch.nn.init.orthogonal_(torch.empty(shape.width, shape.width))
    weight[:, 2] = values.view(shape.heads, size, shape.width)
    # With every head looking at one place, a third of its value is passed on.
    attention.dense.weight.copy_(values.T / 30)
    weight[:, :2, :turning] *= 0.2
    if first:
        rates = ROTARY_BASE ** (-torch.arange(0, turning, 2) / turning)
        for head in range(shape.heads):
            turn = rates * LOOK_BACK[head % len(LOOK_BACK)]
            # Rotary positions: this query meets this key best that many tokens back.
            bias[head, 0, :turning] = 2.5 * torch.cat([turn.cos(), -turn.sin()])
            bias[head, 1, :turning] = 2.5 * torch.cat([torch.ones_like(turn), turn * 0])
    else:
        weight[:, 0, turning:] *= 2
        weight[:, 1, turning:] = weight[:, 0, turning:]
