"""Buffers of a group of lanes: everything that stays from one decoding step to the next.

They are as large as the largest group so far needs; a smaller group, or one whose lanes have
ended, uses their first lanes and positions. Their addresses never change, so that a step that
was recorded over them can be repeated for other groups.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers.cache_utils import CacheLayerMixin

from statebridge.engine.cuda_graphs.shapes import Layout, StepShape
from statebridge.engine.decoding.lane_cache import SharedPromptCache
from statebridge.engine.decoding.lane_grid import LaneGrid
from statebridge.engine.decoding.lanes import Prefilled
from statebridge.models.token_batch import to_device

Entries = tuple[torch.Tensor, torch.Tensor]
"""Keys and values, (lanes or rows, heads, positions, width) each."""


class StaticCacheLayer(CacheLayerMixin):  # type: ignore[misc]
    """Keys and values of one block in buffers; only the buffers' contents change.

    Args:
        entries: The lanes' own, (lanes, heads, capacity, width).
        column: (1,) int64 on the device: the column of the next position.
        prompt: Entries of shared prompts, or None.
    """

    is_sliding = False
    is_croppable = False

    def __init__(self, entries: Entries, column: torch.Tensor, prompt: Entries | None) -> None:
        super().__init__()
        self.prompt = prompt
        self._entries, self._column = entries, column
        self.is_initialized = True

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Do nothing: the buffers exist."""

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> Entries:
        """Write one position; return all positions, also those not written yet."""
        for buffer, states in zip(self._entries, (key_states, value_states), strict=True):
            buffer.index_copy_(2, self._column, states)
        return self._entries

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:  # noqa: ARG002
        """Return (capacity, offset)."""
        return self.get_seq_length(), 0

    def get_seq_length(self) -> int:
        """Return the capacity: only the device knows how much of it is filled."""
        shared = 0 if self.prompt is None else self.prompt[0].shape[2]
        return int(shared + self._entries[0].shape[2])

    def get_max_length(self) -> int:
        """Return the capacity."""
        return self.get_seq_length()


@dataclass(frozen=True, slots=True)
class LaneState:
    """The part of the buffers on which a step of some shape works.

    Attributes:
        token: (lanes, 1) int64, the newest token, which no block has read yet.
        position: (lanes, 1) int64, its position in the lane's text.
        sequence: (lanes, capacity) int64, prompts and new tokens.
        visible: (lanes, capacity) bool, True at real tokens.
        done: (lanes,) bool, True once the end token was chosen.
        counts: (lanes,) int64, new tokens up to the end token, it included.
        uniforms: (lanes, steps) float64, the numbers by which tokens are drawn.
        step: (1,) int64, how many tokens have been chosen.
        last: (1,) int64, the newest token's column.
        own: (1,) int64, its column among the new tokens.
        written: (steps,) bool, True at the columns of `own` that are written.
        slots: (lanes,) int64, places in the grid of lanes that share prompts.
        end_ids: Tokens that end a text.
        cache: Keys and values.
    """

    shape: StepShape
    token: torch.Tensor
    position: torch.Tensor
    sequence: torch.Tensor
    visible: torch.Tensor
    done: torch.Tensor
    counts: torch.Tensor
    uniforms: torch.Tensor
    step: torch.Tensor
    last: torch.Tensor
    own: torch.Tensor
    written: torch.Tensor
    slots: torch.Tensor
    end_ids: torch.Tensor
    cache: SharedPromptCache


_PARTS: dict[str, tuple[torch.dtype, Callable[[StepShape], tuple[int, ...]]]] = {
    "token": (torch.int64, lambda shape: (shape.lanes, 1)),
    "position": (torch.int64, lambda shape: (shape.lanes, 1)),
    "sequence": (torch.int64, lambda shape: (shape.lanes, shape.capacity)),
    "visible": (torch.bool, lambda shape: (shape.lanes, shape.capacity)),
    "done": (torch.bool, lambda shape: (shape.lanes,)),
    "counts": (torch.int64, lambda shape: (shape.lanes,)),
    "uniforms": (torch.float64, lambda shape: (shape.lanes, shape.steps)),
    "step": (torch.int64, lambda _: (1,)),
    "last": (torch.int64, lambda _: (1,)),
    "own": (torch.int64, lambda _: (1,)),
    "written": (torch.bool, lambda shape: (shape.steps,)),
    "slots": (torch.int64, lambda shape: (shape.lanes,)),
}
"""Dtype and sizes of the plain buffers of `LaneState`."""


class StaticLanes:
    """The buffers of one model.

    Args:
        layout: The blocks' forms.
        extent: The sizes to hold.
        end_ids: The model's end tokens.
    """

    def __init__(
        self, layout: Layout, extent: StepShape, end_ids: Sequence[int], device: torch.device
    ) -> None:
        self.layout, self.extent, self.device = layout, extent, device
        self._end_ids = torch.tensor(list(end_ids), dtype=torch.int64, device=device)
        self._parts = {
            name: torch.zeros(sizes(extent), dtype=dtype, device=device)
            for name, (dtype, sizes) in _PARTS.items()
        }

        def entries(form: Any, count: int, positions: int) -> Entries:
            # Zeros, not what the memory held: a masked position's weight of 0 times NaN is NaN.
            sizes = [(count, form.heads, positions, w) for w in (form.key_width, form.value_width)]
            keys, values = (torch.zeros(s, dtype=form.dtype, device=device) for s in sizes)
            return keys, values

        self._entries = [
            entries(form, extent.lanes, extent.steps if form.shared else extent.capacity)
            for form in layout
        ]
        self._prompts = [
            entries(form, extent.rows, extent.prompt) if form.shared else None for form in layout
        ]
        scores = next((form.dtype for form in layout if form.shared), torch.float32)
        self._padding = torch.zeros((extent.rows, 1, 1, extent.prompt), dtype=scores, device=device)

    @property
    def bytes(self) -> int:
        """Memory of all buffers."""
        return sum(tensor.untyped_storage().nbytes() for tensor in self.tensors())

    def tensors(self) -> Iterator[torch.Tensor]:
        """Yield every buffer, whole."""
        yield from (*self._parts.values(), self._end_ids, self._padding)
        for pair in (*self._entries, *(shared for shared in self._prompts if shared is not None)):
            yield from pair

    def at(self, shape: StepShape) -> LaneState:
        """Return the part of the buffers that a shape uses."""
        parts = {
            name: self._parts[name][tuple(map(slice, sizes(shape)))]
            for name, (_, sizes) in _PARTS.items()
        }
        layers = []
        for form, own, prompt in zip(self.layout, self._entries, self._prompts, strict=True):
            positions = shape.steps if form.shared else shape.capacity
            column = parts["own"] if form.shared else parts["last"]
            shared = None if prompt is None else _first(prompt, shape.rows, shape.prompt)
            layers.append(StaticCacheLayer(_first(own, shape.lanes, positions), column, shared))
        cache = SharedPromptCache(layers)
        if shape.rows:
            cache.grid = LaneGrid((), shape.rows, shape.places, parts["slots"])
            cache.padding = self._padding[: shape.rows, :, :, : shape.prompt]
            cache.written = parts["written"]
        return LaneState(shape=shape, end_ids=self._end_ids, cache=cache, **parts)

    def load(self, shape: StepShape, lanes: Prefilled, uniforms: torch.Tensor | None) -> LaneState:
        """Copy a group in, block by block; its cache releases each block that is copied.

        Filling lanes are done from the start and attend to their own tokens only.
        """
        state, batch, cache = self.at(shape), lanes.batch, lanes.cache
        count, prompt = batch.ids.shape
        lengths = to_device(torch.tensor(batch.lengths), self.device)
        _place(state.sequence, batch.ids)
        _place(state.visible, batch.mask)
        _place(state.position, lengths[:, None])
        state.position.sub_(1)
        state.token.zero_()
        state.done.fill_(True)[:count] = False
        state.counts.fill_(shape.steps)
        if uniforms is not None:
            _place(state.uniforms, uniforms[:, : shape.steps])
        state.written.fill_(False)
        state.step.zero_()
        state.last.fill_(prompt - 1)
        state.own.fill_(-1)
        for layer, own, shared in zip(cache.layers, self._entries, self._prompts, strict=True):
            if shared is not None:
                if layer.own is not None and layer.own[0].shape[2]:
                    raise RuntimeError("lanes that share their prompts have further tokens already")
                _fill(_first(shared, shape.rows, shape.prompt), layer.prompt)
                for buffer in _first(own, shape.lanes, shape.steps):
                    buffer.zero_()
            else:
                _fill(_first(own, shape.lanes, shape.capacity), layer.own)
            layer.release()
        if cache.grid is not None:
            self._seat(state, cache.grid)
            padding = self._padding[: shape.rows, :, :, : shape.prompt]
            padding[..., :prompt] = 0
            padding[..., prompt:] = -torch.inf
            if cache.padding is not None:
                padding[: cache.grid.count, ..., :prompt] = cache.padding
        return state

    def keep(
        self,
        before: StepShape,
        after: StepShape,
        kept: Sequence[int],
        grid: LaneGrid | None,
        rows: Sequence[int],
    ) -> LaneState:
        """Move some lanes to the front, in that order, and return the state of their shape.

        Args:
            after: The shape that they get.
            grid: The grid of the kept lanes, where prompts are shared.
            rows: Rows of the shared prompts that are still read.
        """

        def index(places: Sequence[int], count: int) -> torch.Tensor:
            # Filling lanes repeat one that is kept, so that their numbers are sound.
            filled = [*places, *[places[0]] * (count - len(places))]
            return to_device(torch.tensor(filled), self.device)

        lanes = index(kept, after.lanes)
        old, new = self.at(before), self.at(after)
        for name in ("token", "position", "sequence", "visible", "counts", "uniforms"):
            getattr(new, name).copy_(getattr(old, name).index_select(0, lanes))
        new.done.fill_(True)[: len(kept)] = False
        for form, own in zip(self.layout, self._entries, strict=True):
            for buffer in _first(own, before.lanes, after.steps if form.shared else after.capacity):
                buffer[: after.lanes] = buffer.index_select(0, lanes)
        if grid is not None:
            read = index(rows, after.rows)
            for shared in self._prompts:
                for buffer in () if shared is None else shared:
                    entries = buffer[: before.rows, :, : after.prompt]
                    entries[: after.rows] = entries.index_select(0, read)
            self._padding[: after.rows] = self._padding.index_select(0, read)
            self._seat(new, grid)
        return new

    def _seat(self, state: LaneState, grid: LaneGrid) -> None:
        shape = state.shape
        if grid.places != shape.places or grid.count >= shape.rows:
            raise RuntimeError("the grid of the lanes is not that of the step's shape")
        # Filling lanes share the last slot of the spare row, where they overwrite each other only.
        state.slots.fill_(shape.rows * shape.places - 1)[: len(grid.rows)] = grid.slots


def _first(entries: Entries, count: int, positions: int) -> Entries:
    keys, values = entries
    return keys[:count, :, :positions], values[:count, :, :positions]


def _place(buffer: torch.Tensor, values: torch.Tensor) -> None:
    """Copy into the first rows and columns of a buffer, and zero the rest."""
    count, columns = values.shape
    buffer[:count, :columns] = values
    buffer[:count, columns:] = 0
    buffer[count:] = 0


def _fill(buffers: Entries, entries: Entries) -> None:
    """Do the same with keys and values, so that nothing of an earlier group remains."""
    for buffer, values in zip(buffers, entries, strict=True):
        count, _, positions, _ = values.shape
        buffer[:count, :, :positions] = values
        buffer[:count, :, positions:] = 0
        buffer[count:] = 0
