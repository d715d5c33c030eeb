"""Noise: the standard normal states that a condition of source `random` writes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch

from statebridge.experiment.random_streams import STREAMS


class Noise(Protocol):
    """Standard normal draws by row."""

    def draw(self, row: int) -> torch.Tensor:
        """Return the row's draw, (length, width), float32, on the CPU."""


def noise_of(
    rng: str, seed: int, row_ids: Sequence[str], lengths: Sequence[int], width: int
) -> Noise:
    """Return the noise of a seed.

    Args:
        rng: Name of the random stream.
        seed: Seed of the cells.
        row_ids: Ids of the rows.
        lengths: Length in tokens of each row's prompt.
        width: Width of the receiver's states.
    """
    stream = STREAMS.get(rng)
    seeds = [stream.noise_seed(seed, row_id) for row_id in row_ids]
    if None in seeds:
        return OneGenerator(seed, lengths, width)
    return GeneratorPerRow([own for own in seeds if own is not None], lengths, width)


class GeneratorPerRow:
    """A generator for each row, from its own seed."""

    def __init__(self, seeds: Sequence[int], lengths: Sequence[int], width: int) -> None:
        self._seeds, self._lengths, self._width = seeds, lengths, width

    def draw(self, row: int) -> torch.Tensor:
        """Return the row's draw, (length, width)."""
        generator = torch.Generator().manual_seed(self._seeds[row])
        return torch.randn((self._lengths[row], self._width), generator=generator)


class OneGenerator:
    """One generator for all rows: one `randn((1, length, width))` for each, in their order.

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
