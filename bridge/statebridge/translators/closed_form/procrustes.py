"""Fitting an orthogonal map in closed form: Procrustes analysis, with scale and offset.

Schönemann 1966 for the rotation, Schönemann and Carroll 1970 for the scale and the offset.
With centred inputs x and targets y it minimises, over semi-orthogonal Q and a number c, the
mean over positions of ‖y − c Q x‖². Such a map can only turn the sender's space (and
stretch it evenly), never pick directions out: what it carries over was laid out alike in both.

With X'Y = U S V' over the centred positions, Q = V U'. Where the sender is the narrower one,
Q'Q = 1 and this is the exact minimum. Where it is the wider one, QQ' = 1: Q is then the
rotation of the sender's space onto the targets padded with zeros, cut to the receiver's
width, which has the largest covariance with the targets of all Q with QQ' = 1.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch

from statebridge.errors import TranslatorError
from statebridge.experiment.translator_settings import ProcrustesSettings
from statebridge.results.translator_card import ProcrustesRecord
from statebridge.translators.closed_form.centred_sums import CentredSums, gather_sums
from statebridge.translators.fit import Fit, solved
from statebridge.translators.positions import PositionBatch


def solve_procrustes(
    sums: CentredSums, settings: ProcrustesSettings, *, normalize_target: bool
) -> tuple[torch.Tensor, ProcrustesRecord]:
    """Return W = c Q (width_out, width_in), float64, and the record.

    Raises:
        TranslatorError: The positions do not determine the map.
    """
    width_in, width_out = len(sums.mean_x), len(sums.mean_y)
    directions = min(width_in, width_out)
    needed = directions + 1
    if sums.count < needed:
        raise TranslatorError(
            f"the corpus gives {sums.count} positions, but an orthogonal map from width "
            f"{width_in} to {width_out} needs at least {needed}; give more text"
        )
    left, values, right = torch.linalg.svd(sums.xy / sums.count, full_matrices=False)
    if float(values[0]) == 0:
        raise TranslatorError(
            f"over the {sums.count} corpus positions sender and receiver states do not vary "
            f"together, which determines no rotation; at least {needed} different positions "
            "are needed"
        )
    # numpy.linalg.matrix_rank's threshold.
    tolerance = float(values[0]) * max(width_in, width_out) * torch.finfo(torch.float64).eps
    rank = int((values > tolerance).sum())
    if rank < directions:
        raise TranslatorError(
            f"the {sums.count} corpus positions tie only {rank} of {directions} directions of "
            f"the two spaces to each other; at least {needed} linearly independent positions "
            "are needed: give more text, or take kind ridge"
        )
    rotation = (left @ right).T
    scale = 1.0
    if settings.scale:
        length = torch.einsum("oi,ij,oj->", rotation, sums.xx / sums.count, rotation)
        scale = float(values.sum() / length)
    weight = scale * rotation
    record = ProcrustesRecord(
        settings=settings,
        normalize_target=normalize_target,
        training_positions=sums.count,
        scale=scale,
        rank=rank,
        condition_number=float(values[0] / values[-1]),
    )
    return weight, record


def fit_procrustes(
    batches: Iterable[PositionBatch],
    settings: ProcrustesSettings | None = None,
    *,
    normalize: bool = True,
    device: torch.device | str = "cpu",
) -> Fit:
    """Fit an orthogonal map to a stream of positions in one pass; it comes as an affine map.

    Arguments as in `fit_ridge`. Raises as `PositionSums` and `solve_procrustes` do.
    """
    sums = gather_sums(batches, normalize=normalize, device=device)
    return solved(sums, solve_procrustes, settings or ProcrustesSettings())
