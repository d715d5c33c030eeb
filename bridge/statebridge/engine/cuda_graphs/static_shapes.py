"""Shapes that a decoding step of static shapes may have: few, so that few graphs are captured."""

from __future__ import annotations

from dataclasses import dataclass

CAPACITY_STEP = 32
"""A sequence's capacity is a multiple of it, which attention kernels like their masks to be."""


@dataclass(frozen=True, slots=True)
class StepShape:
    """What fixes the shape of every tensor of a step, beside the model.

    Attributes:
        lanes: Lanes that are computed, those included that only fill up.
        capacity: Positions of a lane: prompt, new tokens and what is left over.
        steps: New tokens, and the positions that a lane has of its own where prompts are shared.
        rows: Rows of the shared prompts, one included that nobody reads; 0 where none are.
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
        # Lanes that only fill up read the spare row: each real lane has a slot to itself.
        return cls(bucket(lanes), capacity, steps, bucket(rows + 1) if rows else 0, places)

    @property
    def prompt(self) -> int:
        """Positions of a shared prompt."""
        return self.capacity - self.steps

    @property
    def extent(self) -> tuple[int, int, int, int, int]:
        """What buffers have to hold: lanes, capacity, steps, rows, positions of a prompt."""
        return self.lanes, self.capacity, self.steps, self.rows, self.prompt


def bucket(count: int) -> int:
    """Return the size that `count` lanes are filled up to: at most a quarter more.

    1, 2, 4, 8, then quarters of each octave: 10, 12, 14, 16, 20, 24, 28, 32, 40, and so on.
    """
    octave = 1 << max(0, count - 1).bit_length()
    if octave <= 8:
        return octave
    quarter = octave // 8
    return -(-count // quarter) * quarter
