"""The output of a model's attention with its own keys and values, and with others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from statebridge.models.messages.key_values import KeyValues, attention
from statebridge.models.traced_model import TracedModel

NAME = "statebridge_compared"

_OTHER: list[tuple[KeyValues, list[float]]] = []
"""The keys and values to compare with, and the cosines found; one owner of a model at a time."""


def attention_cosines(model: TracedModel, ids: Sequence[int], other: KeyValues) -> list[float]:
    """Return, for each block, the cosine of its attention's two outputs, averaged over tokens.

    The model reads a prompt with its own keys and values. In each block its queries also attend to
    others of the same positions.

    Args:
        ids: The prompt.
        other: One row, rotated to positions from 0.
    """
    found: list[float] = []
    _OTHER.append((other, found))
    try:
        with torch.no_grad(), attention(model.module, NAME):
            model.module(
                input_ids=torch.tensor([list(ids)], device=model.device),
                use_cache=False,
                logits_to_keep=1,
            )
    finally:
        _OTHER.pop()
    return found


def _attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **more: Any,
) -> tuple[torch.Tensor, None]:
    other, found = _OTHER[-1]
    keys, values = (part.to(query.dtype) for part in other.layers[len(found)])
    own: tuple[torch.Tensor, None] = sdpa_attention_forward(
        module, query, key, value, attention_mask, **more
    )
    theirs, _ = sdpa_attention_forward(module, query, keys, values, attention_mask, **more)
    ours, others = (output.double().flatten(2) for output in (own[0], theirs))
    found.append(float(torch.nn.functional.cosine_similarity(ours, others, dim=-1).mean()))
    return own


AttentionInterface.register(NAME, _attend)
AttentionMaskInterface.register(NAME, sdpa_mask)
