"""Result of every way of fitting a translator."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from statebridge.results.translator_card import ProcrustesRecord, RidgeRecord, TrainingRecord
from statebridge.translators.quality import TargetMeans
from statebridge.translators.translator import Translator


@dataclass(frozen=True, slots=True)
class Fit:
    """A fitted translator, how it was fitted, and the baseline to score it against."""

    translator: Translator
    """On the CPU, float32, gradients off."""
    record: TrainingRecord | RidgeRecord | ProcrustesRecord
    means: TargetMeans
    """Means of the receiver's states at the training positions."""


def finished(translator: Translator) -> Translator:
    """Return the translator on the CPU, in float32, in evaluation mode, gradients off."""
    translator.float().cpu().eval().requires_grad_(False)
    return translator


def solved(
    weight: torch.Tensor,
    bias: torch.Tensor,
    record: RidgeRecord | ProcrustesRecord,
    means: TargetMeans,
    *,
    normalize_input: bool,
) -> Fit:
    """Return the fit of an affine map solved for: W (width_out, width_in), b (width_out,)."""
    translator = Translator(
        "affine", weight.shape[1], weight.shape[0], normalize_input=normalize_input
    )
    translator.set_weights({"weight": weight.cpu(), "bias": bias.cpu()}, where=record.method)
    return Fit(finished(translator), record, means)
