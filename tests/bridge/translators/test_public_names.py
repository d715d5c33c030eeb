from __future__ import annotations

import subprocess
import sys

import pytest

from statebridge import translators

NAMES = [
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


def test_public_names() -> None:
    assert translators.__all__ == NAMES
    for name in NAMES:
        assert getattr(translators, name).__name__ == name


def test_unknown_name() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Translater'"):
        _ = translators.Translater


def test_light_part_needs_no_torch() -> None:
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "from statebridge.translators import TextCorpus, TrainingSettings, TranslatorCard\n"
        "from statebridge.translators import RidgeSettings, QualityReport\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
