"""Key-value memory of a group of lanes, laid out once.

Hugging Face's dynamic cache concatenates at every step; here each layer owns one buffer of
(lanes, heads, capacity, head width) and attention sees a view of the filled part.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin


class LaneCacheLayer(CacheLayerMixin):  # type: ignore[misc]
    """Keys and values of one block for all lanes of a group."""

    is_sliding = False
    is_croppable = True

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self._capacity = capacity
        self._length = 0
        self._key_buffer: torch.Tensor
        self._value_buffer: torch.Tensor

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Allocate the buffers from the first keys and values, (lanes, heads, n, width)."""

        def buffer(like: torch.Tensor) -> torch.Tensor:
            lanes, heads, _, width = like.shape
            return like.new_empty((lanes, heads, self._capacity, width))

        self._key_buffer, self._value_buffer = buffer(key_states), buffer(value_states)
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append keys and values of new positions; return those of all positions."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        end = self._length + key_states.shape[-2]
        self._key_buffer[:, :, self._length : end] = key_states
        self._value_buffer[:, :, self._length : end] = value_states
        self._length = end
        return self._key_buffer[:, :, :end], self._value_buffer[:, :, :end]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return (length with the new positions, offset)."""
        return self._length + query_length, 0

    def get_seq_length(self) -> int:
        """Return how many positions are filled."""
        return self._length

    def get_max_length(self) -> int:
        """Return -1: the buffer is sized for the group, not a property of the model."""
        return -1

    def forget(self, positions: int) -> None:
        """Drop the last `positions` positions."""
        self._length -= positions

    def keep(self, lanes: torch.Tensor) -> None:
        """Keep some lanes only, in the order of `lanes` (indices)."""
        if self.is_initialized:
            self._key_buffer = self._key_buffer.index_select(0, lanes)
            self._value_buffer = self._value_buffer.index_select(0, lanes)


class LaneCache(Cache):  # type: ignore[misc]
    """One `LaneCacheLayer` per block.

    Args:
        depth: Number of blocks.
        capacity: Positions to hold: prompt, answer or new tokens.
    """

    def __init__(self, depth: int, capacity: int) -> None:
        super().__init__(layers=[LaneCacheLayer(capacity) for _ in range(depth)])

    def fill_from(self, source: Cache, blocks: range, rows: torch.Tensor) -> None:
        """Copy the entries of some blocks from a row cache, lane i taking row `rows[i]`."""
        for block in blocks:
            layer = source.layers[block]
            self.layers[block].update(
                layer.keys.index_select(0, rows), layer.values.index_select(0, rows)
            )

    def forget(self, positions: int) -> None:
        """Drop the last `positions` positions of every block."""
        for layer in self.layers:
            layer.forget(positions)

    def keep(self, lanes: torch.Tensor) -> None:
        """Keep some lanes only."""
        for layer in self.layers:
            layer.keep(lanes)
