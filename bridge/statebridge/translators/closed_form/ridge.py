"""Fitting an affine translator in closed form: ridge regression with a free bias.

Hoerl and Kennard 1970. It minimises, over W and b, the mean over positions of
‖y − W x − b‖² plus λ‖W‖², from sums that are gathered in one pass in float64: memory
depends on the widths and not on the length of the corpus.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch

from statebridge.errors import TranslatorError
from statebridge.experiment.translator_settings import RidgeSettings
from statebridge.results.translator_card import RidgeRecord
from statebridge.translators.closed_form.centred_sums import CentredSums, gather_sums
from statebridge.translators.fit import Fit, solved
from statebridge.translators.positions import PositionBatch


def solve_ridge(
    sums: CentredSums, settings: RidgeSettings, *, normalize_target: bool
) -> tuple[torch.Tensor, RidgeRecord]:
    """Return W (width_out, width_in), float64, and the record.

    Raises:
        TranslatorError: The positions do not determine the map.
    """
    width, needed = len(sums.mean_x), len(sums.mean_x) + 1
    if sums.count < needed and not settings.allow_underdetermined:
        raise TranslatorError(
            f"the corpus gives {sums.count} positions, but an affine map from width {width} "
            f"needs at least {needed}; give more text, or set allow_underdetermined with a "
            "regularisation above 0"
        )
    values, vectors = torch.linalg.eigh(sums.xx / sums.count)
    # An exact zero comes out of the solver as ± its rounding error; never below zero.
    values = values.clamp_min(0)
    largest = float(values[-1])
    if largest == 0:
        raise TranslatorError(
            f"all {sums.count} sender positions hold one and the same state, which "
            f"determines no map; at least {needed} different positions are needed"
        )
    # numpy.linalg.matrix_rank's threshold.
    rank = int((values > largest * width * torch.finfo(torch.float64).eps).sum())
    penalty = settings.regularisation * float(values.mean())
    if rank < width and penalty == 0:
        raise TranslatorError(
            f"the {sums.count} corpus positions span only {rank} of {width} directions of "
            f"the sender's space; at least {needed} linearly independent positions are "
            "needed, or a regularisation above 0"
        )
    condition = (largest + penalty) / (float(values[0]) + penalty)
    if condition > settings.max_condition_number:
        raise TranslatorError(
            f"the {sums.count} corpus positions leave the fit ill-conditioned (condition "
            f"number {condition:.2g}, at most {settings.max_condition_number:.2g}): "
            f"{needed} linearly independent positions are the least, and more text or a "
            "higher regularisation helps"
        )
    projected = vectors.T @ (sums.xy / sums.count)
    weight = (vectors @ (projected / (values + penalty).unsqueeze(1))).T
    record = RidgeRecord(
        settings=settings,
        normalize_target=normalize_target,
        training_positions=sums.count,
        penalty=penalty,
        rank=rank,
        condition_number=condition,
    )
    return weight, record


def fit_ridge(
    batches: Iterable[PositionBatch],
    settings: RidgeSettings | None = None,
    *,
    normalize: bool = True,
    device: torch.device | str = "cpu",
) -> Fit:
    """Fit an affine translator to a stream of positions in one pass, on `device`.

    `batches` give un-normalised sender (n, width_in) and receiver (n, width_out) states;
    both are L2-normalised unless `normalize` is false. The result is the same to the bit
    however the stream is cut. Raises as `PositionSums` and `solve_ridge` do.
    """
    sums = gather_sums(batches, normalize=normalize, device=device)
    return solved(sums, solve_ridge, settings or RidgeSettings())
