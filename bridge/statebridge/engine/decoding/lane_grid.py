"""Lanes laid out by the row whose prompt they read, so that one prompt serves all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from statebridge.models.token_batch import to_device


@dataclass(frozen=True, slots=True)
class LaneGrid:
    """A grid of rows × places, with an empty place where a row has fewer lanes than another.

    Attributes:
        rows: The row of each lane.
        count: Number of rows, those without a lane included.
        places: Lanes of the row that has most of them.
        slots: (lanes,) int64: row · places + place.
    """

    rows: tuple[int, ...]
    count: int
    places: int
    slots: torch.Tensor

    @classmethod
    def of(
        cls, rows: Sequence[int], count: int, device: torch.device, at_least: int = 0
    ) -> LaneGrid:
        """Lay out lanes that read rows 0 to `count` - 1, with `at_least` places in a row."""
        taken = [0] * count
        in_row = []
        for row in rows:
            in_row.append(taken[row])
            taken[row] += 1
        places = max(at_least, *taken)
        slots = [row * places + place for row, place in zip(rows, in_row, strict=True)]
        return cls(tuple(rows), count, places, to_device(torch.tensor(slots), device))

    def keep(self, lanes: Sequence[int], at_least: int = 0) -> tuple[LaneGrid, list[int]]:
        """Return the grid of some lanes, in that order, and the rows that they still read."""
        kept = sorted({self.rows[lane] for lane in lanes})
        place = {row: i for i, row in enumerate(kept)}
        rows = [place[self.rows[lane]] for lane in lanes]
        return LaneGrid.of(rows, len(kept), self.slots.device, at_least), kept

    def spread(self, lanes: torch.Tensor) -> torch.Tensor:
        """Turn (lanes, heads, n, width) into (rows, heads, places · n, width); empty ones 0."""
        _, heads, count, width = lanes.shape
        grid = lanes.new_zeros((self.count * self.places, heads, count, width))
        grid.index_copy_(0, self.slots, lanes)
        by_row = grid.view(self.count, self.places, heads, count, width).transpose(1, 2)
        return by_row.reshape(self.count, heads, self.places * count, width)

    def gather(self, grid: torch.Tensor) -> torch.Tensor:
        """Undo `spread`."""
        _, heads, both, width = grid.shape
        count = both // self.places
        by_place = grid.view(self.count, heads, self.places, count, width).transpose(1, 2)
        flat = by_place.reshape(self.count * self.places, heads, count, width)
        return flat.index_select(0, self.slots)
