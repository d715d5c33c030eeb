from __future__ import annotations

import subprocess
import sys

import pytest

from statebridge import translators

NAMES = [
    "Fit",
    "PositionStore",
    "TargetMeans",
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


def test_public_names() -> None:
    assert sorted(translators.__all__) == NAMES
    for name in NAMES:
        assert getattr(translators, name).__name__ == name


def test_unknown_name() -> None:
    with pytest.raises(AttributeError, match="attribute Translater"):
        _ = translators.Translater


def test_kinds_are_known_without_torch() -> None:
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "from statebridge.experiment.translator_settings import KINDS\n"
        "assert KINDS.get('low_rank').options == ('rank',)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
