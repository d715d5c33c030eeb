"""Key-value memory of a group of lanes, laid out once.

Hugging Face's dynamic cache concatenates at every step; here each layer owns one buffer of
(lanes, heads, capacity, head width) and attention sees a view of the filled part. In the
blocks up to the injection layer a prompt is the same in all of its cells: there the prompt's
entries may be kept once per row, and a lane's own buffer holds its new tokens only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

from statebridge.engine.decoding.lane_grid import LaneGrid
from statebridge.models.token_batch import to_device


class LaneCacheLayer(CacheLayerMixin):  # type: ignore[misc]
    """Keys and values of one block for all lanes of a group.

    Attributes:
        prompt: Keys and values of the prompts, (rows, heads, positions, width) each, where
            lanes share them.
    """

    is_sliding = False
    is_croppable = True

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self.prompt: tuple[torch.Tensor, torch.Tensor] | None = None
        self._capacity = capacity
        self._shared = 0
        self._length = 0
        self._key_buffer: torch.Tensor
        self._value_buffer: torch.Tensor

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Allocate the buffers from the first keys and values, (lanes, heads, n, width)."""

        def buffer(like: torch.Tensor) -> torch.Tensor:
            lanes, heads, _, width = like.shape
            return like.new_empty((lanes, heads, self._capacity - self._shared, width))

        self._key_buffer, self._value_buffer = buffer(key_states), buffer(value_states)
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append keys and values of new positions; return the lanes' own, new ones included."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        end = self._length + key_states.shape[-2]
        self._key_buffer[:, :, self._length : end] = key_states
        self._value_buffer[:, :, self._length : end] = value_states
        self._length = end
        return self._key_buffer[:, :, :end], self._value_buffer[:, :, :end]

    def share(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Take the prompts' entries, (rows, heads, positions, width), as they are: no copy."""
        self.prompt = keys, values
        self._shared = keys.shape[2]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return (length with the new positions, offset)."""
        return self.get_seq_length() + query_length, 0

    def get_seq_length(self) -> int:
        """Return how many positions are filled."""
        return self._shared + self._length

    def get_max_length(self) -> int:
        """Return -1: the buffer is sized for the group, not a property of the model."""
        return -1

    def forget(self, positions: int) -> None:
        """Drop the last `positions` positions."""
        self._length -= positions

    @property
    def own(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        """The lanes' own keys and values so far, (lanes, heads, n, width); None before any."""
        if not self.is_initialized:
            return None
        filled = slice(self._length)
        return self._key_buffer[:, :, filled], self._value_buffer[:, :, filled]

    def release(self) -> None:
        """Let go of all entries, once they are held elsewhere; the layer is of no more use."""
        self.prompt = None
        if self.is_initialized:
            del self._key_buffer, self._value_buffer
            self.is_initialized = False

    def keep(self, lanes: torch.Tensor, rows: torch.Tensor | None) -> None:
        """Keep some lanes only, in the order of `lanes`, and of shared prompts some rows."""
        if self.is_initialized:
            self._key_buffer = self._key_buffer.index_select(0, lanes)
            self._value_buffer = self._value_buffer.index_select(0, lanes)
        if self.prompt is not None and rows is not None:
            keys, values = self.prompt
            self.prompt = keys.index_select(0, rows), values.index_select(0, rows)


class SharedPromptCache(Cache):  # type: ignore[misc]
    """A cache some of whose layers may share their lanes' prompts: what attention asks of it.

    Attributes:
        grid: Which row's prompt each lane reads, where prompts are shared.
        padding: (rows, 1, 1, positions), what is added to the scores of shared prompts: -inf
            at padding, else 0; None where there is none.
        written: (positions,) bool, which of the lanes' own positions are there, in layers
            that share their prompt; None where all are that such a layer returns.
    """

    def __init__(self, layers: list[Any]) -> None:
        super().__init__(layers=layers)
        self.grid: LaneGrid | None = None
        self.padding: torch.Tensor | None = None
        self.written: torch.Tensor | None = None


class LaneCache(SharedPromptCache):
    """One `LaneCacheLayer` per block.

    Args:
        depth: Number of blocks.
        capacity: Positions to hold: prompt, answer or new tokens.
    """

    def __init__(self, depth: int, capacity: int) -> None:
        super().__init__([LaneCacheLayer(capacity) for _ in range(depth)])

    def fill_from(self, source: Cache, blocks: range, rows: Sequence[int]) -> None:
        """Copy the entries of some blocks from a row cache, lane i taking row `rows[i]`."""
        for block in blocks:
            layer = source.layers[block]
            index = to_device(torch.tensor(rows), layer.keys.device)
            self.layers[block].update(
                layer.keys.index_select(0, index), layer.values.index_select(0, index)
            )

    def share_from(
        self, source: Cache, blocks: range, rows: Sequence[int], mask: torch.Tensor
    ) -> None:
        """Read the entries of some blocks from a row cache, lane i reading row `rows[i]`.

        Nothing is copied; attention has to look at them by itself (`lane_attention`).

        Args:
            mask: (rows, positions) bool, True at the real tokens of the row cache's prompts.
        """
        self.grid = LaneGrid.of(rows, mask.shape[0], mask.device)
        for block in blocks:
            layer = source.layers[block]
            self.layers[block].share(layer.keys, layer.values)
        if not bool(mask.all()):
            padding = torch.zeros(mask.shape, dtype=layer.keys.dtype, device=mask.device)
            self.padding = padding.masked_fill_(~mask, -torch.inf)[:, None, None, :]

    def forget(self, positions: int) -> None:
        """Drop the last `positions` positions of every block."""
        for layer in self.layers:
            layer.forget(positions)

    def keep(self, lanes: Sequence[int], device: torch.device) -> None:
        """Keep some lanes only, in that order."""
        index, rows = to_device(torch.tensor(lanes), device), None
        if self.grid is not None:
            before = self.grid.count
            self.grid, still_read = self.grid.keep(lanes)
            if len(still_read) < before:
                rows = to_device(torch.tensor(still_read), device)
                if self.padding is not None:
                    self.padding = self.padding.index_select(0, rows)
        for layer in self.layers:
            layer.keep(index, rows)
