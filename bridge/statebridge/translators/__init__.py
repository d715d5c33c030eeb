"""Translators: maps from the sender's states to the receiver's space. Needs torch."""

from __future__ import annotations

from statebridge.translators.fit import Fit
from statebridge.translators.position_store import PositionStore
from statebridge.translators.procrustes import fit_procrustes
from statebridge.translators.quality import TargetMeans, measure_quality, target_means
from statebridge.translators.ridge import fit_ridge
from statebridge.translators.storage import load_translator, make_card, save_translator
from statebridge.translators.training import TrainingProgress, train_translator
from statebridge.translators.translator import Translator

__all__ = [
    "Fit",
    "PositionStore",
    "TargetMeans",
    "TrainingProgress",
    "Translator",
    "fit_procrustes",
    "fit_ridge",
    "load_translator",
    "make_card",
    "measure_quality",
    "save_translator",
    "target_means",
    "train_translator",
]
