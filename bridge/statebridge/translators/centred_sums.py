"""The sums that determine a linear fit, gathered in one pass and bounded memory."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from statebridge.translators.normalisation import l2_normalise
from statebridge.translators.positions import PositionBatch, checked_batches, fixed_blocks
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
        shift_x, shift_y = block_x - self.mean_x, block_y - self.mean_y
        total = self.count + len(x)
        weight = self.count * len(x) / total
        self.xx.addmm_(x.T, x).addr_(shift_x, shift_x, alpha=weight)
        self.xy.addmm_(x.T, y).addr_(shift_x, shift_y, alpha=weight)
        self.mean_x += shift_x * (len(x) / total)
        self.mean_y += shift_y * (len(x) / total)
        self.count = total


def gather_sums(
    batches: Iterable[PositionBatch], *, normalize: bool, device: torch.device | str
) -> tuple[CentredSums, TargetMeans]:
    """Return the sums over a stream of positions, and the means of its receiver states.

    `batches` give un-normalised sender (n, width_in) and receiver (n, width_out) states;
    `normalize` L2-normalises both. However the stream is cut, the sums are the same to the
    bit. They are computed on `device`.

    Raises as `positions.checked_batches` does.
    """
    sums: CentredSums | None = None
    means = TargetMeanSums()
    for sender, receiver in fixed_blocks(checked_batches(batches)):
        x, y = sender.to(device), receiver.to(device)
        if sums is None:
            sums = CentredSums(x.shape[1], y.shape[1], x.device)
        means.add(y)
        sums.add(
            l2_normalise(x) if normalize else x,
            l2_normalise(y) if normalize else y,
        )
    assert sums is not None, "checked_batches refuses an empty stream"  # noqa: S101
    return sums, means.means()
