"""The normal random states of `same_norm_random`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch

from statebridge.channels.donors import row_key


class Noise(Protocol):
    """Standard normal draws by row."""

    def draw(self, row: int) -> torch.Tensor:
        """Return the row's draw, (length, width), float32, on the CPU."""


class PerRowNoise:
    """One generator per row, keyed by (seed, row id): a row's draw never moves."""

    def __init__(
        self, seed: int, row_ids: Sequence[str], lengths: Sequence[int], width: int
    ) -> None:
        self._seed, self._row_ids, self._lengths, self._width = seed, row_ids, lengths, width

    def draw(self, row: int) -> torch.Tensor:
        """Return the row's draw, (length, width)."""
        generator = torch.Generator().manual_seed(row_key(self._seed, self._row_ids[row]))
        return torch.randn((self._lengths[row], self._width), generator=generator)


class PublishedNoise:
    """The published stream: one generator, one `randn((1, length, width))` per row in order.

    Rows are drawn in any order without holding all draws: the generator's state is kept at
    every `STRIDE`-th row as the stream is first walked, and a draw replays from the nearest
    kept state.
    """

    STRIDE = 16

    def __init__(self, seed: int, lengths: Sequence[int], width: int) -> None:
        self._lengths, self._width = lengths, width
        self._generator = torch.Generator().manual_seed(seed)
        self._kept = [self._generator.get_state()]
        self._next = 0

    def draw(self, row: int) -> torch.Tensor:
        """Return the row's draw, (length, width)."""
        if row != self._next:
            mark = min(row // self.STRIDE, len(self._kept) - 1)
            if not mark * self.STRIDE <= self._next <= row:
                self._generator.set_state(self._kept[mark])
                self._next = mark * self.STRIDE
            while self._next < row:
                self._step()
        return self._step()

    def _step(self) -> torch.Tensor:
        if self._next == len(self._kept) * self.STRIDE:
            self._kept.append(self._generator.get_state())
        drawn = torch.randn((1, self._lengths[self._next], self._width), generator=self._generator)
        self._next += 1
        return drawn[0]
