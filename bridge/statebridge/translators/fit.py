"""What every way of fitting a translator hands back."""

from __future__ import annotations

from dataclasses import dataclass

from statebridge.translators.card import RidgeRecord, TrainingRecord
from statebridge.translators.quality import TargetMeans
from statebridge.translators.translator import Translator


@dataclass(frozen=True, slots=True)
class Fit:
    """A fitted translator, how it was fitted, and the baseline to score it against."""

    translator: Translator
    """On the CPU, float32, gradients off."""
    record: TrainingRecord | RidgeRecord
    means: TargetMeans
    """Of the training positions' receiver states."""


def finished(translator: Translator) -> Translator:
    """Return the translator on the CPU, in float32, in evaluation mode, gradients off."""
    translator.float().cpu().eval().requires_grad_(False)
    return translator
