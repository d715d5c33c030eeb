"""The layers that a message of keys and values has, and their importance to a receiver.

Source: KVComm (arXiv 2510.03346): the attention that the receiver's prompt gives to the sender's
keys, without the first one, which is the sink. Its own code measures it through a mask that lets
tokens see later ones; here every token sees earlier ones only.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence

import torch

from statebridge.experiment.message import Layers, LayerShare
from statebridge.models.messages.key_values import KeyValues, attention
from statebridge.models.traced_model import TracedModel


def chosen_layers(
    layers: Layers | None, depth: int, seed: int | None, importance: Callable[[], Sequence[float]]
) -> frozenset[int]:
    """Return the layers that a message has.

    Args:
        layers: As declared.
        depth: Number of layers.
        seed: Seed of the cell, for a random choice.
        importance: Returns the importance of each layer; called where the choice asks for it.
    """
    if layers is None or layers == "all":
        return frozenset(range(depth))
    if not isinstance(layers, LayerShare):
        return frozenset(layer % depth for layer in layers)
    count = int(layers.share * depth)
    if layers.by == "middle":
        first = (depth - count) // 2
        return frozenset(range(first, first + count))
    if layers.by == "random":
        ranks: Sequence[float] = [_drawn(seed, layer) for layer in range(depth)]
    else:
        ranks = scores(layers, importance())
    return frozenset(sorted(range(depth), key=lambda layer: (-ranks[layer], layer))[:count])


def scores(choice: LayerShare, importance: Sequence[float]) -> list[float]:
    """Return alpha · importance + (1 - alpha) · Gaussian over depth, both scaled to [0, 1]."""
    centre = choice.mu * (len(importance) - 1)
    depth = [math.exp(-((i - centre) ** 2) / (2 * choice.sigma**2)) for i in range(len(importance))]
    pairs = zip(_scaled(importance), _scaled(depth), strict=True)
    return [choice.alpha * one + (1 - choice.alpha) * other for one, other in pairs]


def measured_importance(
    model: TracedModel, prompt: Sequence[int], message: KeyValues
) -> list[float]:
    """Return the attention that a prompt gives to a message in each layer.

    It is summed over the message's positions but the first, and averaged over heads and the
    prompt's tokens.

    Args:
        message: Keys and values of one row.
    """
    (length,) = message.lengths
    ids = torch.tensor([list(prompt)], device=model.device)
    with torch.no_grad(), attention(model.module, "eager"):
        found = model.module(
            input_ids=ids,
            position_ids=torch.arange(length, length + len(prompt), device=model.device)[None],
            past_key_values=message.cache(),
            use_cache=True,
            output_attentions=True,
            logits_to_keep=1,
        ).attentions
    # (1, heads, tokens of the prompt, positions of message and prompt) of each layer
    return [float(weights[..., 1:length].double().sum(-1).mean()) for weights in found]


def _scaled(values: Sequence[float]) -> list[float]:
    least, most = min(values), max(values)
    return [(value - least) / (most - least) if most > least else 0.0 for value in values]


def _drawn(seed: int | None, layer: int) -> float:
    digest = hashlib.sha256(f"layers {seed} {layer}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
