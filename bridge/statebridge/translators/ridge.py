"""Fitting an affine translator in closed form: ridge regression with a free bias.

Hoerl and Kennard 1970. It minimises, over W and b, the mean over positions of
‖y − W x − b‖² plus λ‖W‖², from sums that are gathered in one pass in float64: memory
depends on the widths and not on the length of the corpus.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch

from statebridge.errors import TranslatorError
from statebridge.translators.card import RidgeRecord
from statebridge.translators.fit import Fit, finished
from statebridge.translators.normalisation import l2_normalise
from statebridge.translators.positions import PositionBatch, checked_batches, fixed_blocks
from statebridge.translators.quality import TargetMeanSums
from statebridge.translators.settings import RidgeSettings
from statebridge.translators.translator import Translator


class RidgeSums:
    """The sufficient statistics: counts, means, centred X'X and X'Y, in float64.

    Means and centred products are merged block by block (Chan, Golub and LeVeque 1983):
    states whose mean is large beside their spread would lose it in X'X − n x̄x̄'.
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

    def solve(
        self, settings: RidgeSettings, *, normalize_target: bool
    ) -> tuple[torch.Tensor, torch.Tensor, RidgeRecord]:
        """Return W (width_out, width_in) and b (width_out,), float64, and the record.

        Raises `TranslatorError` where the positions do not determine the map.
        """
        width, needed = len(self.mean_x), len(self.mean_x) + 1
        if self.count < needed and not settings.allow_underdetermined:
            raise TranslatorError(
                f"the corpus gives {self.count} positions, but an affine map from width {width} "
                f"needs at least {needed}; give more text, or set allow_underdetermined with a "
                "regularisation above 0"
            )
        values, vectors = torch.linalg.eigh(self.xx / self.count)
        # An exact zero comes out of the solver as ± its rounding error; never below zero.
        values = values.clamp_min(0)
        largest = float(values[-1])
        if largest == 0:
            raise TranslatorError(
                f"all {self.count} sender positions hold one and the same state, which "
                f"determines no map; at least {needed} different positions are needed"
            )
        # numpy.linalg.matrix_rank's threshold.
        rank = int((values > largest * width * torch.finfo(torch.float64).eps).sum())
        penalty = settings.regularisation * float(values.mean())
        if rank < width and penalty == 0:
            raise TranslatorError(
                f"the {self.count} corpus positions span only {rank} of {width} directions of "
                f"the sender's space; at least {needed} linearly independent positions are "
                "needed, or a regularisation above 0"
            )
        condition = (largest + penalty) / (float(values[0]) + penalty)
        if condition > settings.max_condition_number:
            raise TranslatorError(
                f"the {self.count} corpus positions leave the fit ill-conditioned (condition "
                f"number {condition:.2g}, at most {settings.max_condition_number:.2g}): "
                f"{needed} linearly independent positions are the least, and more text or a "
                "higher regularisation helps"
            )
        projected = vectors.T @ (self.xy / self.count)
        weight = (vectors @ (projected / (values + penalty).unsqueeze(1))).T
        bias = self.mean_y - weight @ self.mean_x
        record = RidgeRecord(
            settings=settings,
            normalize_target=normalize_target,
            training_positions=self.count,
            penalty=penalty,
            rank=rank,
            condition_number=condition,
        )
        return weight, bias, record


def fit_ridge(
    batches: Iterable[PositionBatch],
    settings: RidgeSettings | None = None,
    *,
    normalize: bool = True,
    device: torch.device | str = "cpu",
) -> Fit:
    """Fit an affine translator to a stream of positions in one pass.

    `batches` give un-normalised sender (n, width_in) and receiver (n, width_out) states;
    both are L2-normalised unless `normalize` is false. However the stream is cut, the
    result is the same to the bit. Sums and solution are computed on `device`.

    Raises as `positions.checked_batches` and `RidgeSums.solve` do.
    """
    settings = settings or RidgeSettings()
    sums: RidgeSums | None = None
    means = TargetMeanSums()
    for sender, receiver in fixed_blocks(checked_batches(batches)):
        x, y = sender.to(device), receiver.to(device)
        if sums is None:
            sums = RidgeSums(x.shape[1], y.shape[1], x.device)
        means.add(y)
        sums.add(
            l2_normalise(x) if normalize else x,
            l2_normalise(y) if normalize else y,
        )
    assert sums is not None, "checked_batches refuses an empty stream"  # noqa: S101
    weight, bias, record = sums.solve(settings, normalize_target=normalize)
    translator = Translator("affine", weight.shape[1], weight.shape[0], normalize_input=normalize)
    translator.set_weights({"weight": weight.cpu(), "bias": bias.cpu()}, where="ridge")
    return Fit(finished(translator), record, means.means())
