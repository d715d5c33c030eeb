"""Keys and values in buffers of full capacity, written where a counter on the device says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers.cache_utils import CacheLayerMixin

from statebridge.engine.decoding.lane_cache import LaneCache, SharedPromptCache
from statebridge.engine.decoding.lane_grid import LaneGrid

Entries = tuple[torch.Tensor, torch.Tensor]
"""Keys and values, (lanes or rows, heads, positions, width) each."""


@dataclass(frozen=True, slots=True)
class LayerForm:
    """What a block's entries look like, whatever the group."""

    heads: int
    key_width: int
    value_width: int
    dtype: torch.dtype
    shared: bool
    """Whether lanes share their prompts' entries."""


Layout = tuple[LayerForm, ...]
"""The forms of all blocks."""


def layout_of(cache: LaneCache) -> Layout:
    """Return the forms of a prefilled cache's blocks."""
    return tuple(_form(layer) for layer in cache.layers)


def _form(layer: Any) -> LayerForm:
    shared = layer.prompt is not None
    keys, values = layer.prompt if shared else layer.own
    return LayerForm(keys.shape[1], keys.shape[3], values.shape[3], keys.dtype, shared)


class StaticCacheLayer(CacheLayerMixin):  # type: ignore[misc]
    """One block's entries; nothing in it changes but the buffers' contents.

    Args:
        entries: The lanes' own, (lanes, heads, capacity, width).
        column: (1,) int64 on the device: where the next position goes.
        prompt: Shared prompts' entries, or None.
    """

    is_sliding = False
    is_croppable = False

    def __init__(self, entries: Entries, column: torch.Tensor, prompt: Entries | None) -> None:
        super().__init__()
        self.prompt = prompt
        self._entries, self._column = entries, column
        self.is_initialized = True

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Do nothing: the buffers are there."""

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> Entries:
        """Write one position; return all, those included that are not written yet."""
        keys, values = self._entries
        keys.index_copy_(2, self._column, key_states)
        values.index_copy_(2, self._column, value_states)
        return keys, values

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:  # noqa: ARG002
        """Return (capacity, offset)."""
        return self.get_seq_length(), 0

    def get_seq_length(self) -> int:
        """Return the capacity: how much of it is filled is known to the device only."""
        shared = 0 if self.prompt is None else self.prompt[0].shape[2]
        return int(shared + self._entries[0].shape[2])

    def get_max_length(self) -> int:
        """Return the capacity."""
        return self.get_seq_length()


class StaticCache(SharedPromptCache):
    """One `StaticCacheLayer` per block."""

    def __init__(
        self,
        layers: list[StaticCacheLayer],
        grid: LaneGrid | None,
        padding: torch.Tensor,
        written: torch.Tensor,
    ) -> None:
        super().__init__(layers)
        if grid is not None:
            self.grid, self.padding, self.written = grid, padding, written
