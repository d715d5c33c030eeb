"""One pass for all the layers of a sweep: states are kept for the pairs of layers yet to come.

A pass through the lower blocks is the same whichever layer is read, so that the first run of a
sweep to read a batch of texts captures every layer that the sweep reads.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import torch

from statebridge.models.pair import Pair
from statebridge.models.token_batch import TokenBatch
from statebridge.models.traced_model import TracedModel


class LayerCaptures:
    """States of several layers of one model by batch, up to a number of bytes.

    Attributes:
        layers: What a pass captures, in rising order.
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
        # Nobody who writes into what is returned changes what is kept.
        return self._kept[key][model.layer].clone()


@dataclass(frozen=True, slots=True)
class SweptModel(TracedModel):
    """A model whose captures are taken for all of a sweep's layers at once."""

    captures: LayerCaptures = field(default_factory=lambda: LayerCaptures((), 0))

    def capture(self, batch: TokenBatch, cache: Any = None) -> torch.Tensor:
        """Return the output of the layer in use; see `TracedModel.capture`.

        A pass that also fills a key-value cache is always made.
        """
        kept = None if cache is not None else self.captures.states(self, batch)
        # `super()` without arguments does not go with slots.
        return TracedModel.capture(self, batch, cache) if kept is None else kept


def swept_pair(
    pair: Pair, sender_layers: Sequence[int], receiver_layers: Sequence[int], budget: int
) -> Pair:
    """Return the pair with captures shared over the layers of a sweep.

    Args:
        budget: Bytes of states that may be kept, for both sides together.
    """
    if pair.sender.model is pair.receiver.model:
        both = LayerCaptures([*sender_layers, *receiver_layers], budget)
        return Pair(_swept(pair.sender, both), _swept(pair.receiver, both))
    return Pair(
        _swept(pair.sender, LayerCaptures(sender_layers, budget // 2)),
        _swept(pair.receiver, LayerCaptures(receiver_layers, budget // 2)),
    )


def _swept(model: TracedModel, captures: LayerCaptures) -> SweptModel:
    known = {each.name: getattr(model, each.name) for each in fields(TracedModel)}
    return SweptModel(**known, captures=captures)


def _key(batch: TokenBatch) -> bytes:
    digest = hashlib.sha256(str(tuple(batch.ids.shape)).encode())
    for tensor in (batch.ids, batch.mask):
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.digest()
