"""Shapes of steps and of key-value entries: few, so that few graphs are captured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch

from statebridge.engine.decoding.lane_cache import LaneCache

CAPACITY_STEP = 32
"""A sequence's capacity is a multiple of this, as attention kernels prefer for masks."""


@dataclass(frozen=True, slots=True)
class StepShape:
    """The sizes that fix the shape of every tensor of a step, apart from the model's.

    Attributes:
        lanes: Computed lanes, filling lanes included.
        capacity: Positions of a lane: prompt, new tokens and what is left over.
        steps: New tokens; also a lane's own positions in blocks that share prompts.
        rows: Rows of the shared prompts, one spare row included; 0 where none are shared.
        places: Lanes that a row may have; 0 where no prompt is shared.
    """

    lanes: int
    capacity: int
    steps: int
    rows: int = 0
    places: int = 0

    @classmethod
    def around(
        cls, lanes: int, prompt: int, steps: int, rows: int = 0, places: int = 0
    ) -> StepShape:
        """Return the smallest shape that a group fits into; `rows` without the spare one."""
        capacity = -(-(prompt + steps) // CAPACITY_STEP) * CAPACITY_STEP
        # Filling lanes read the spare row: each real lane has a slot to itself.
        return cls(bucket(lanes), capacity, steps, bucket(rows + 1) if rows else 0, places)

    @property
    def prompt(self) -> int:
        """Positions of a shared prompt."""
        return self.capacity - self.steps

    def covering(self, other: StepShape) -> StepShape:
        """Return the sizes of buffers that hold both shapes."""
        steps = max(self.steps, other.steps)
        return StepShape(
            lanes=max(self.lanes, other.lanes),
            capacity=max(self.capacity, other.capacity, steps + max(self.prompt, other.prompt)),
            steps=steps,
            rows=max(self.rows, other.rows),
        )


def bucket(count: int) -> int:
    """Return the size to which `count` lanes are filled up: at most a quarter more.

    1, 2, 4, 8, then quarters of each octave: 10, 12, 14, 16, 20, 24, 28, 32, 40, and so on.
    """
    octave = 1 << max(0, count - 1).bit_length()
    if octave <= 8:
        return octave
    quarter = octave // 8
    return -(-count // quarter) * quarter


class LayerForm(NamedTuple):
    """The form of one block's keys and values, whatever the group."""

    heads: int
    key_width: int
    value_width: int
    dtype: torch.dtype
    shared: bool
    """Whether lanes share the entries of their prompts."""


Layout = tuple[LayerForm, ...]
"""The forms of all blocks."""


def layout_of(cache: LaneCache) -> Layout:
    """Return the forms of a prefilled cache's blocks."""
    forms = []
    for layer in cache.layers:
        keys, values = layer.own if layer.prompt is None else layer.prompt
        shared = layer.prompt is not None
        forms.append(LayerForm(keys.shape[1], keys.shape[3], values.shape[3], keys.dtype, shared))
    return tuple(forms)
