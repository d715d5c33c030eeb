"""Captures that are made once: of all layers that are read, and for all who read a batch.

A pass through the lower blocks is the same whichever layer is read. So the first one that reads a
batch of texts captures every layer that a layer search, or a fit, reads, and keeps the states.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import torch

from statebridge.engine.planning.groups import free_bytes
from statebridge.models.pair import Pair
from statebridge.models.token_batch import TokenBatch
from statebridge.models.traced_model import TracedModel

KEPT_SHARE = 0.2
"""Share of the memory free after loading that states kept for later layers may take."""


class LayerCaptures:
    """States of several layers of one model by batch, up to a number of bytes.

    Attributes:
        layers: Layers that a pass captures, in rising order.
        budget: Bytes that are kept; what does not fit is captured again layer by layer.
        passes: How many passes were made.
        answered: How many captures were answered from what was kept.
    """

    def __init__(self, layers: Sequence[int], budget: int) -> None:
        self.layers = sorted(set(layers))
        self.budget = budget
        self.passes = 0
        self.answered = 0
        self._kept: dict[bytes, dict[int, torch.Tensor]] = {}

    def states(self, model: TracedModel, batch: TokenBatch) -> torch.Tensor | None:
        """Return the states of the model's layer, (rows, positions, width); None without room.

        Raises:
            NumericError: A state at a real token is not finite, at any of the layers.
        """
        key = _key(batch)
        if key not in self._kept:
            size = batch.ids.numel() * model.width * model.dtype.itemsize * len(self.layers)
            if model.layer not in self.layers or size > self.budget:
                return None
            found = model.capture_layers(batch, self.layers)
            self.passes += 1
            self.budget -= size
            self._kept[key] = dict(zip(self.layers, found, strict=True))
        elif model.layer not in self.layers:
            return None
        else:
            self.answered += 1
        # A copy: writing into it does not change the stored states.
        return self._kept[key][model.layer].clone()


@dataclass(frozen=True, slots=True)
class SearchedModel(TracedModel):
    """A model that captures all layers of a layer search at once."""

    captures: LayerCaptures = field(default_factory=lambda: LayerCaptures((), 0))
    keeps_captures: ClassVar[bool] = True

    def capture(self, batch: TokenBatch, cache: Any = None) -> torch.Tensor:
        """Return the output of the layer in use; see `TracedModel.capture`.

        A pass that also fills a key-value cache is always made.
        """
        kept = None if cache is not None else self.captures.states(self, batch)
        # `super()` without arguments does not go with slots.
        return TracedModel.capture(self, batch, cache) if kept is None else kept


def searched_pair(
    pair: Pair,
    sender_layers: Sequence[int],
    receiver_layers: Sequence[int],
    budget: int | None = None,
) -> Pair:
    """Return the pair with captures shared over some layers, and over whatever reads a batch again.

    Args:
        pair: Both models.
        sender_layers: Layers of the sender that are captured in one pass.
        receiver_layers: Those of the receiver.
        budget: Bytes of states that may be kept, for both sides together; by default
            `KEPT_SHARE` of what is free.
    """
    if budget is None:
        devices = (pair.sender.device, pair.receiver.device)
        budget = int(KEPT_SHARE * min(free_bytes(device) for device in devices))
    if pair.sender.model is pair.receiver.model:
        both = LayerCaptures([*sender_layers, *receiver_layers], budget)
        return Pair(_searched(pair.sender, both), _searched(pair.receiver, both))
    return Pair(
        _searched(pair.sender, LayerCaptures(sender_layers, budget // 2)),
        _searched(pair.receiver, LayerCaptures(receiver_layers, budget // 2)),
    )


def _searched(model: TracedModel, captures: LayerCaptures) -> SearchedModel:
    known = {each.name: getattr(model, each.name) for each in fields(TracedModel)}
    return SearchedModel(**known, captures=captures)


def _key(batch: TokenBatch) -> bytes:
    digest = hashlib.sha256(str(tuple(batch.ids.shape)).encode())
    for tensor in (batch.ids, batch.mask):
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.digest()
