"""Rotary positions of cached keys: taken off, put on, and moved.

The cosines and sines are the model's own, so scaled frequencies (Llama 3), a part of a head's
dimensions (GPT-NeoX) and frequencies of each kind of block (Gemma 3) are as the model has them.
Every family here rotates its keys after it has normalised them, and in halves: dimension i with
dimension i + d/2 of the d that are rotated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from statebridge.errors import PairError
from statebridge.models.families import FAMILIES
from statebridge.models.messages.key_values import KeyValues, cache_heads
from statebridge.models.traced_model import TracedModel

Angles = tuple[torch.Tensor, torch.Tensor]
"""Cosines and sines, (rows, positions, rotated dimensions) each, in float32."""


def check_rotary(module: Any) -> None:
    """Refuse a model whose keys are not rotated, or of an unknown family.

    Raises:
        PairError: Names the model type.
    """
    kind = module.config.model_type
    rotary = [name for name, family in FAMILIES.items() if family.positions == "rotary"]
    if kind not in rotary:
        reason = "keys are not rotated" if kind in FAMILIES else "cache is not known"
        raise PairError(
            f"model type {kind!r}: its {reason}, so its keys cannot be moved to other positions or "
            f"mapped; use one of {', '.join(rotary)}"
        )


def angles(module: Any, positions: torch.Tensor) -> list[Angles]:
    """Return the angles of each block's keys at some positions.

    Args:
        module: A causal language model with rotary positions.
        positions: (rows, positions) int64.

    Raises:
        PairError: The model adds its positions to its input, or its family is not known.
    """
    check_rotary(module)
    rotary = module.base_model.rotary_emb
    if any(buffer.is_meta for buffer in rotary.buffers()):
        # The weights are elsewhere, but frequencies come from the configuration.
        rotary = type(rotary)(rotary.config)
    like = torch.empty((), dtype=torch.float32, device=positions.device)
    config = module.config.get_text_config()
    depth = int(config.num_hidden_layers)
    kinds = getattr(rotary, "layer_types", None)
    with torch.no_grad():
        if kinds is None:
            return [rotary(like, positions)] * depth
        by_kind = {kind: rotary(like, positions, kind) for kind in kinds}
    return [by_kind[kind] for kind in config.layer_types]


def strip(keys: torch.Tensor, of_block: Angles) -> torch.Tensor:
    """Return keys, (rows, heads, positions, width), before their rotation, in float32."""
    cosines, sines = of_block
    # Some rules of scaling (YaRN) lengthen the rotated dimensions by one factor, here squared.
    lengthened = cosines[:1, :1, :1].square() + sines[:1, :1, :1].square()
    return _turned(keys, cosines / lengthened, -sines / lengthened)


def rotate(keys: torch.Tensor, of_block: Angles) -> torch.Tensor:
    """Return keys rotated to their positions, in float32: undoes `strip`."""
    return _turned(keys, *of_block)


def moved(
    module: Any, message: KeyValues, starts: Sequence[int], to: Sequence[int] | None = None
) -> KeyValues:
    """Return a message whose keys were rotated to positions from `starts`, at others.

    Args:
        module: The model that read it.
        starts: Position of each row's first entry so far.
        to: Position of each row's first entry then; None for 0.
    """
    keys = message.layers[0][0]
    places = (message.mask.long().cumsum(dim=1) - 1).clamp(min=0)
    before = places + torch.tensor(list(starts), device=keys.device)[:, None]
    if to is not None:
        places = places + torch.tensor(list(to), device=keys.device)[:, None]
    layers = tuple(
        (rotate(strip(keys, old), new).to(keys.dtype), values)
        for (keys, values), old, new in zip(
            message.layers, angles(module, before), angles(module, places), strict=True
        )
    )
    return replace(message, layers=layers)


def bare_states(module: Any, message: KeyValues) -> torch.Tensor:
    """Return the keys before their rotation and the values, (rows, positions, width).

    The width is blocks · 2 · heads · head width, keys before values in each block.

    Args:
        module: The model that read the message, whole and from position 0.
    """
    places = (message.mask.long().cumsum(dim=1) - 1).clamp(min=0)
    parts = [
        part.transpose(1, 2).flatten(2)
        for (keys, values), of_block in zip(message.layers, angles(module, places), strict=True)
        for part in (strip(keys, of_block), values.float())
    ]
    return torch.cat(parts, dim=-1)


def message_of(model: TracedModel, states: torch.Tensor, lengths: tuple[int, ...]) -> KeyValues:
    """Return the message of `bare_states`, its keys rotated to a model's positions from 0.

    Args:
        states: (rows, positions, width), padded on the left.
    """
    heads, width = cache_heads(model.module.config.get_text_config())
    shape = *states.shape[:2], len(model.block_paths), 2, heads, width
    parts = states.reshape(shape).permute(2, 3, 0, 4, 1, 5)
    empty = KeyValues(((parts[0, 0], parts[0, 1]),), lengths)
    places = (empty.mask.long().cumsum(dim=1) - 1).clamp(min=0)
    layers = tuple(
        (rotate(keys, of_block).to(model.dtype), values.to(model.dtype))
        for (keys, values), of_block in zip(parts, angles(model.module, places), strict=True)
    )
    return KeyValues(layers, lengths)


def _turned(keys: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor) -> torch.Tensor:
    keys, width = keys.float(), cosines.shape[-1]
    turning, rest = keys[..., :width], keys[..., width:]
    first, second = turning.chunk(2, dim=-1)
    crossed = torch.cat((-second, first), dim=-1)
    turned = turning * cosines[:, None] + crossed * sines[:, None]
    return torch.cat((turned, rest), dim=-1)
