"""All that a group of lanes keeps from one decoding step to the next, allocated once.

The buffers are as large as the largest group so far; a smaller group, or one that has become
smaller, uses their first lanes and positions. Their addresses stay what they are, so that a
step that was recorded over them can be repeated for other groups.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from statebridge.engine.cuda_graphs.static_cache import (
    Entries,
    Layout,
    StaticCache,
    StaticCacheLayer,
)
from statebridge.engine.cuda_graphs.static_shapes import StepShape
from statebridge.engine.decoding.lane_grid import LaneGrid
from statebridge.models.token_batch import to_device

if TYPE_CHECKING:
    from statebridge.engine.decoding.lanes import Prefilled


@dataclass(frozen=True, slots=True)
class LaneState:
    """The part of the buffers that a step of some shape works on.

    Attributes:
        shape: The step's.
        token: (lanes, 1) int64, the newest token, which no block has seen yet.
        position: (lanes, 1) int64, where it stands in its lane's text.
        sequence: (lanes, capacity) int64, prompts and new tokens.
        visible: (lanes, capacity) bool, True at real tokens.
        done: (lanes,) bool, True once the end token was chosen.
        counts: (lanes,) int64, new tokens up to the end token, it included.
        uniforms: (lanes, steps) float64, the numbers that tokens are drawn by.
        step: (1,) int64, how many tokens have been chosen.
        last: (1,) int64, the newest token's column.
        own: (1,) int64, its column among the new tokens.
        end_ids: The tokens that end a text.
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
    end_ids: torch.Tensor
    cache: StaticCache


class StaticLanes:
    """The buffers.

    Args:
        layout: The blocks' forms.
        extent: What they have to hold, as `StepShape.extent`.
        end_ids: The model's.
    """

    def __init__(
        self,
        layout: Layout,
        extent: tuple[int, int, int, int, int],
        end_ids: Sequence[int],
        device: torch.device,
    ) -> None:
        self.extent, self._layout = extent, layout
        lanes, capacity, steps, rows, prompt = extent

        def whole(*size: int) -> torch.Tensor:
            return torch.zeros(size, dtype=torch.int64, device=device)

        def truth(*size: int) -> torch.Tensor:
            return torch.zeros(size, dtype=torch.bool, device=device)

        self._token, self._position, self._counts = whole(lanes, 1), whole(lanes, 1), whole(lanes)
        self._sequence, self._visible = whole(lanes, capacity), truth(lanes, capacity)
        self._done, self._written, self._slots = truth(lanes), truth(steps), whole(lanes)
        self._uniforms = torch.zeros((lanes, steps), dtype=torch.float64, device=device)
        self._step, self._last, self._own = whole(1), whole(1), whole(1)
        self._end_ids = torch.tensor(list(end_ids), dtype=torch.int64, device=device)

        def entries(of: int, heads: int, positions: int, index: int) -> Entries:
            form = layout[index]
            widths = form.key_width, form.value_width
            # Zeros, not what the memory held: a masked position's weight of 0 times NaN is NaN.
            keys, values = (
                torch.zeros((of, heads, positions, width), dtype=form.dtype, device=device)
                for width in widths
            )
            return keys, values

        self._entries: list[Entries] = []
        self._prompts: list[Entries | None] = []
        for index, form in enumerate(layout):
            positions = steps if form.shared else capacity
            self._entries.append(entries(lanes, form.heads, positions, index))
            shared = entries(rows, form.heads, prompt, index) if form.shared else None
            self._prompts.append(shared)
        scores = next((form.dtype for form in layout if form.shared), torch.float32)
        self._padding = torch.zeros((rows, 1, 1, prompt), dtype=scores, device=device)

    @property
    def device(self) -> torch.device:
        """Where the buffers are."""
        return self._token.device

    @property
    def bytes(self) -> int:
        """Memory of all buffers."""
        return sum(tensor.untyped_storage().nbytes() for tensor in self.tensors())

    def tensors(self) -> Iterable[torch.Tensor]:
        """Yield every buffer, whole."""
        yield from (self._token, self._position, self._counts, self._sequence, self._visible)
        yield from (self._done, self._written, self._slots, self._uniforms, self._step)
        yield from (self._last, self._own, self._end_ids, self._padding)
        for pair in (*self._entries, *(shared for shared in self._prompts if shared is not None)):
            yield from pair

    def at(self, shape: StepShape) -> LaneState:
        """Return the part of the buffers that a shape uses."""
        lanes, capacity, steps = shape.lanes, shape.capacity, shape.steps
        layers = []
        for form, own, prompt in zip(self._layout, self._entries, self._prompts, strict=True):
            positions = steps if form.shared else capacity
            column = self._own if form.shared else self._last
            shared = None if prompt is None else _first(prompt, shape.rows, shape.prompt)
            layers.append(StaticCacheLayer(_first(own, lanes, positions), column, shared))
        grid = LaneGrid((), shape.rows, shape.places, self._slots[:lanes]) if shape.rows else None
        padding = self._padding[: shape.rows, :, :, : shape.prompt]
        return LaneState(
            shape=shape,
            token=self._token[:lanes],
            position=self._position[:lanes],
            sequence=self._sequence[:lanes, :capacity],
            visible=self._visible[:lanes, :capacity],
            done=self._done[:lanes],
            counts=self._counts[:lanes],
            uniforms=self._uniforms[:lanes, :steps],
            step=self._step,
            last=self._last,
            own=self._own,
            written=self._written[:steps],
            end_ids=self._end_ids,
            cache=StaticCache(layers, grid, padding, self._written[:steps]),
        )

    def load(self, shape: StepShape, lanes: Prefilled, uniforms: torch.Tensor | None) -> LaneState:
        """Copy a group in, block by block; its cache lets go of each block that is copied.

        Lanes that only fill up are done from the start, and see nothing but their own tokens.
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
            self._seat(shape, cache.grid)
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
        """Move some lanes to the front, in that order; `after` is the shape that they get.

        Args:
            grid: That of the lanes kept, where prompts are shared.
            rows: Of the shared prompts those that are still read.
        """
        # What fills up repeats a lane that is kept, so that its numbers are sound; it is done.
        filled = [*kept, *[kept[0]] * (after.lanes - len(kept))]
        index = to_device(torch.tensor(filled), self.device)
        old, new = self.at(before), self.at(after)
        for name in ("token", "position", "sequence", "visible", "counts", "uniforms"):
            getattr(new, name).copy_(getattr(old, name).index_select(0, index))
        new.done.fill_(True)[: len(kept)] = False
        for form, own in zip(self._layout, self._entries, strict=True):
            for buffer in _first(own, before.lanes, after.steps if form.shared else after.capacity):
                buffer[: after.lanes] = buffer.index_select(0, index)
        if grid is not None:
            spare = [*rows, *[rows[0]] * (after.rows - len(rows))]
            index = to_device(torch.tensor(spare), self.device)
            for shared in self._prompts:
                for buffer in () if shared is None else shared:
                    entries = buffer[: before.rows, :, : after.prompt]
                    entries[: after.rows] = entries.index_select(0, index)
            self._padding[: after.rows] = self._padding.index_select(0, index)
            self._seat(after, grid)
        return new

    def _seat(self, shape: StepShape, grid: LaneGrid) -> None:
        if grid.places != shape.places or grid.count >= shape.rows:
            raise RuntimeError("the grid of the lanes is not that of the step's shape")
        # What fills up sits in the spare row, where it may overwrite itself only.
        self._slots.fill_(shape.rows * shape.places - 1)[: len(grid.rows)] = grid.slots


def _first(entries: Entries, count: int, positions: int) -> Entries:
    keys, values = entries
    return keys[:count, :, :positions], values[:count, :, :positions]


def _place(buffer: torch.Tensor, values: torch.Tensor) -> None:
    """Copy into the first rows and columns of a buffer, zero the rest."""
    count, columns = values.shape
    buffer[:count, :columns] = values
    buffer[:count, columns:] = 0
    buffer[count:] = 0


def _fill(buffers: Entries, entries: Entries) -> None:
    """The same over keys and values: what an earlier group left must not be met, NaN least."""
    for buffer, values in zip(buffers, entries, strict=True):
        count, _, positions, _ = values.shape
        buffer[:count, :, :positions] = values
        buffer[:count, :, positions:] = 0
        buffer[count:] = 0
