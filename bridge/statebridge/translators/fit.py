"""The result of every way to fit a translator, and the step that closed forms share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch

from statebridge.experiment.translator_settings import ProcrustesSettings, RidgeSettings
from statebridge.results.translator_card import ProcrustesRecord, RidgeRecord, TrainingRecord
from statebridge.translators.closed_form.centred_sums import CentredSums, PositionSums
from statebridge.translators.quality import TargetMeans
from statebridge.translators.translator import Translator

S_contra = TypeVar("S_contra", RidgeSettings, ProcrustesSettings, contravariant=True)


@dataclass(frozen=True, slots=True)
class Fit:
    """A fitted translator, how it was fitted, and the baseline to score it against."""

    translator: Translator
    """On the CPU, float32, gradients off."""
    record: TrainingRecord | RidgeRecord | ProcrustesRecord
    means: TargetMeans
    """Means of the receiver's states at the training positions."""


class Solve(Protocol[S_contra]):
    """A closed form; see `solve_ridge`."""

    def __call__(
        self, sums: CentredSums, settings: S_contra, *, normalize_target: bool
    ) -> tuple[torch.Tensor, RidgeRecord | ProcrustesRecord]:
        """Return W (width_out, width_in) and the record."""


def finished(translator: Translator) -> Translator:
    """Return the translator on the CPU, in float32, in evaluation mode, gradients off."""
    translator.float().cpu().eval().requires_grad_(False)
    return translator


def solved(sums: PositionSums, solve: Solve[S_contra], settings: S_contra) -> Fit:
    """Return the fit of an affine map by a closed form; its bias joins the means.

    Raises as `PositionSums.result` and `solve` do.
    """
    found, means = sums.result()
    weight, record = solve(found, settings, normalize_target=sums.normalize)
    bias = found.mean_y - weight @ found.mean_x
    translator = Translator(
        "affine", weight.shape[1], weight.shape[0], normalize_input=sums.normalize
    )
    translator.set_weights({"weight": weight.cpu(), "bias": bias.cpu()}, where=record.method)
    return Fit(finished(translator), record, means)
