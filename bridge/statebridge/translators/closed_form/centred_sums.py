"""The sums that determine a linear fit, gathered in one pass and bounded memory."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from statebridge.errors import TranslatorError
from statebridge.translators.modules.maps import l2_normalise
from statebridge.translators.positions import (
    BLOCK_SIZE,
    NO_POSITIONS,
    PositionBatch,
    check_batch,
    fixed_blocks,
)
from statebridge.translators.quality import TargetMeans, TargetMeanSums


class CentredSums:
    """Counts, means, centred X'X and X'Y of inputs X and targets Y, in float64.

    Means and centred products are merged block by block (Chan, Golub and LeVeque 1983):
    states whose mean is large beside their spread would lose it in X'X - n x̄x̄'.
    """

    def __init__(self, width_in: int, width_out: int, device: torch.device) -> None:
        self.count = 0
        self.mean_x = torch.zeros(width_in, dtype=torch.float64, device=device)
        self.mean_y = torch.zeros(width_out, dtype=torch.float64, device=device)
        self.xx = torch.zeros(width_in, width_in, dtype=torch.float64, device=device)
        self.xy = torch.zeros(width_in, width_out, dtype=torch.float64, device=device)

    def add(self, x: torch.Tensor, y: torch.Tensor) -> None:
        """Take in inputs (n, width_in) and targets (n, width_out)."""
        x, y = x.double(), y.double()
        block_x, block_y = x.mean(dim=0), y.mean(dim=0)
        x, y = x - block_x, y - block_y
        self.xx.addmm_(x.T, x)
        self.xy.addmm_(x.T, y)
        self._shift(len(x), block_x, block_y)

    def merge(self, other: CentredSums) -> None:
        """Take in the sums over other positions."""
        if other.count:
            other.to(self.xx.device)
            self.xx += other.xx
            self.xy += other.xy
            self._shift(other.count, other.mean_x, other.mean_y)

    def to(self, device: torch.device) -> None:
        """Move the sums."""
        self.mean_x, self.mean_y = self.mean_x.to(device), self.mean_y.to(device)
        self.xx, self.xy = self.xx.to(device), self.xy.to(device)

    def _shift(self, count: int, mean_x: torch.Tensor, mean_y: torch.Tensor) -> None:
        """Take in the means of positions whose products about them are in the sums already."""
        shift_x, shift_y = mean_x - self.mean_x, mean_y - self.mean_y
        total = self.count + count
        weight = self.count * count / total
        self.xx.addr_(shift_x, shift_x, alpha=weight)
        self.xy.addr_(shift_x, shift_y, alpha=weight)
        self.mean_x += shift_x * (count / total)
        self.mean_y += shift_y * (count / total)
        self.count = total


class PositionSums:
    """The sums over positions that come batch by batch, and the means of their receiver states.

    However the stream is cut, the sums are the same to the bit. They are computed on `device`;
    `normalize` L2-normalises both sides.
    """

    def __init__(self, *, normalize: bool, device: torch.device | str) -> None:
        self.normalize = normalize
        self._device = device
        self._sums: CentredSums | None = None
        self._means = TargetMeanSums()
        self._widths: tuple[int, int] | None = None
        self._seen = 0
        self._held: list[PositionBatch] = []
        self._count = 0

    def add(self, batch: PositionBatch) -> None:
        """Take in un-normalised sender (n, width_in) and receiver (n, width_out) states.

        Raises as `positions.check_batch` does.
        """
        sender, receiver = batch
        if self._widths is None:
            self._widths = sender.shape[-1], receiver.shape[-1]
        check_batch(batch, *self._widths, self._seen)
        self._seen += len(sender)
        self._held.append(batch)
        self._count += len(sender)
        if self._count >= BLOCK_SIZE:
            *whole, last = fixed_blocks(self._held)
            for block in whole:
                self._take(*block)
            self._held, self._count = [last], len(last[0])

    def merge(self, other: PositionSums) -> None:
        """Take in the sums over positions that follow these."""
        self._take_held()
        other._take_held()
        if self._sums is None:
            self._sums, self._means = other._sums, other._means
            self.to(self._device)
        elif other._sums is not None:
            self._sums.merge(other._sums)
            self._means.merge(other._means)

    def to(self, device: torch.device | str) -> None:
        """Move the sums over all that came."""
        self._take_held()
        self._device = device
        if self._sums is not None:
            self._sums.to(torch.device(device))

    def result(self) -> tuple[CentredSums, TargetMeans]:
        """Return the sums and means over all that came; nothing can be added any more.

        Raises:
            TranslatorError: No position came.
        """
        self._take_held()
        if self._sums is None:
            raise TranslatorError(NO_POSITIONS)
        return self._sums, self._means.means()

    def _take_held(self) -> None:
        for block in fixed_blocks(self._held):
            self._take(*block)
        self._held, self._count = [], 0

    def _take(self, sender: torch.Tensor, receiver: torch.Tensor) -> None:
        x, y = sender.to(self._device), receiver.to(self._device)
        if self._sums is None:
            self._sums = CentredSums(x.shape[1], y.shape[1], x.device)
        self._means.add(y)
        self._sums.add(
            l2_normalise(x) if self.normalize else x,
            l2_normalise(y) if self.normalize else y,
        )


def gather_sums(
    batches: Iterable[PositionBatch], *, normalize: bool, device: torch.device | str
) -> PositionSums:
    """Return the sums over a stream of positions; see `PositionSums`."""
    sums = PositionSums(normalize=normalize, device=device)
    for batch in batches:
        sums.add(batch)
    return sums
