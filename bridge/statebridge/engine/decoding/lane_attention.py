"""Attention of lanes after their prefill: a few queries on long keys, prompts shared.

In the blocks up to the injection layer all cells of a row have the same keys and values at
the prompt's positions. They are read once per row: the queries of all its lanes meet them
in one matrix product. `torch.nn.functional.scaled_dot_product_attention` cannot do that
without a copy of the prompt for each lane, and its CPU kernel is slow for a single query;
docs/benchmarks.md has the measurement.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from statebridge.engine.decoding.lane_cache import SharedPromptCache
from statebridge.models.families import families_with
from statebridge.models.traced_model import TracedModel

NAME = "statebridge_lanes"


def attends_by_lane(model: TracedModel) -> bool:
    """Whether a model's lanes can be decoded with the attention of this module.

    Not in half precision, where Hugging Face's kernel adds up in float32 and a matrix
    product's result would be rounded between its two steps; and not with sliding windows.
    """
    config = model.module.config
    kinds = getattr(config, "layer_types", None) or ()
    return (
        config.model_type in families_with("lane_attention")
        and config._attn_implementation == "sdpa"
        and model.dtype in (torch.float32, torch.float64)
        and getattr(config, "sliding_window", None) is None
        and all(kind == "full_attention" for kind in kinds)
        # Otherwise a part of the model would not notice that the attention is another.
        and all(getattr(part, "config", config) is config for part in model.module.modules())
    )


@contextmanager
def lane_attention(model: TracedModel, cache: SharedPromptCache) -> Iterator[dict[str, Any]]:
    """Let forward passes over a lane cache use `attend`; yields what they are called with."""
    if not attends_by_lane(model):
        yield {}
        return
    config = model.module.config
    before = config._attn_implementation
    config._attn_implementation = NAME
    try:
        yield {"lane_cache": cache}
    finally:
        config._attn_implementation = before


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    lane_cache: SharedPromptCache,
    scaling: float | None = None,
    **more: Any,
) -> tuple[torch.Tensor, None]:
    """Attend as Hugging Face's attention functions do.

    Args:
        query: (lanes, heads, n, width) of the n new positions.
        key, value: (lanes, key-value heads, own positions, width), the new ones included;
            what `lane_cache` shares of the prompt comes before them.
        attention_mask: Of all positions; None where nothing is padded.

    Returns:
        (lanes, n, heads, width), None.
    """
    layer: Any = lane_cache.layers[module.layer_idx]
    count, width = query.shape[2:]
    if layer.prompt is None and (count > 1 or query.device.type != "cpu"):
        attended: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **more
        )
        return attended
    # Heads that share a key-value head are further queries of it: nothing is repeated.
    per_head = query.shape[1] // key.shape[1]
    lanes, heads = key.shape[:2]
    scaled = query * (width**-0.5 if scaling is None else scaling)
    scaled = scaled.reshape(lanes, heads, per_head * count, width)
    own = scaled @ key.transpose(2, 3)
    if layer.prompt is None:
        if attention_mask is not None:
            own.masked_fill_(~attention_mask, -torch.inf)
        mixed = own.softmax(dim=-1) @ value
    else:
        if count > 1:
            later = torch.ones((count, key.shape[2]), dtype=torch.bool, device=key.device)
            later = later.triu(key.shape[2] - count + 1)
            own.view(lanes, heads, per_head, count, -1).masked_fill_(later, -torch.inf)
        if lane_cache.written is not None:
            own.masked_fill_(~lane_cache.written, -torch.inf)
        mixed = _with_prompt(lane_cache, layer.prompt, scaled, own, value)
    mixed = mixed.reshape(lanes, heads * per_head, count, width)
    return mixed.transpose(1, 2).contiguous(), None


def _with_prompt(
    cache: SharedPromptCache,
    prompt: tuple[torch.Tensor, torch.Tensor],
    query: torch.Tensor,
    own_scores: torch.Tensor,
    own_values: torch.Tensor,
) -> torch.Tensor:
    """Attend to the shared prompt and to a lane's own positions under one softmax."""
    grid, (keys, values) = cache.grid, prompt
    if grid is None:
        raise RuntimeError("a layer shares its prompt and the cache has no grid of its lanes")
    scores = grid.spread(query) @ keys.transpose(2, 3)
    if cache.padding is not None:
        scores += cache.padding
    weights = torch.cat((scores, grid.spread(own_scores)), dim=-1).softmax(dim=-1)
    positions = keys.shape[2]
    by_row = weights[..., :positions] @ values
    own_weights = grid.gather(weights[..., positions:].contiguous())
    return grid.gather(by_row) + own_weights @ own_values


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, sdpa_mask)
