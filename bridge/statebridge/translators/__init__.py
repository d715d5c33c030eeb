"""Translators: maps from the sender's states to the receiver's space.

The public names are listed here and loaded on first use, since all but the settings, the
cards and the corpus need torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from statebridge.translators.card import (
        CausalRecord,
        CorpusRecord,
        QualityReport,
        StateOrigin,
        TranslatorCard,
    )
    from statebridge.translators.corpus import TextCorpus
    from statebridge.translators.fit import Fit
    from statebridge.translators.position_store import PositionStore
    from statebridge.translators.procrustes import fit_procrustes
    from statebridge.translators.quality import TargetMeans, measure_quality, target_means
    from statebridge.translators.ridge import fit_ridge
    from statebridge.translators.settings import (
        CausalSettings,
        ProcrustesSettings,
        RidgeSettings,
        TrainingSettings,
    )
    from statebridge.translators.storage import load_translator, make_card, save_translator
    from statebridge.translators.training import TrainingProgress, train_translator
    from statebridge.translators.translator import Translator

_MODULES = {
    "CausalRecord": "card",
    "CausalSettings": "settings",
    "CorpusRecord": "card",
    "Fit": "fit",
    "PositionStore": "position_store",
    "ProcrustesSettings": "settings",
    "QualityReport": "card",
    "RidgeSettings": "settings",
    "StateOrigin": "card",
    "TargetMeans": "quality",
    "TextCorpus": "corpus",
    "TrainingProgress": "training",
    "TrainingSettings": "settings",
    "Translator": "translator",
    "TranslatorCard": "card",
    "fit_procrustes": "procrustes",
    "fit_ridge": "ridge",
    "load_translator": "storage",
    "make_card": "storage",
    "measure_quality": "quality",
    "save_translator": "storage",
    "target_means": "quality",
    "train_translator": "training",
}

__all__ = [
    "CausalRecord",
    "CausalSettings",
    "CorpusRecord",
    "Fit",
    "PositionStore",
    "ProcrustesSettings",
    "QualityReport",
    "RidgeSettings",
    "StateOrigin",
    "TargetMeans",
    "TextCorpus",
    "TrainingProgress",
    "TrainingSettings",
    "Translator",
    "TranslatorCard",
    "fit_procrustes",
    "fit_ridge",
    "load_translator",
    "make_card",
    "measure_quality",
    "save_translator",
    "target_means",
    "train_translator",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
