"""Figures: drawn from results, captioned, and saved as SVG, PDF and PNG.

Every function returns a `Drawing`: a figure with its caption, or, where the results do not
hold what it shows, the reason.
"""

from __future__ import annotations

from statebridge.figures.accuracy import accuracy_against_cost, containment
from statebridge.figures.capacity import capacity_curve
from statebridge.figures.differences import forest, paired_delta
from statebridge.figures.drawing import Drawing, save_figure
from statebridge.figures.gallery import gallery
from statebridge.figures.layers import layer_map
from statebridge.figures.norms import (
    cosine_distribution,
    norm_distribution,
    norm_mismatch,
    translator_cosine,
)
from statebridge.figures.strength import strength_curve
from statebridge.figures.texts import audit_labels, divergence_survival

__all__ = [
    "Drawing",
    "accuracy_against_cost",
    "audit_labels",
    "capacity_curve",
    "containment",
    "cosine_distribution",
    "divergence_survival",
    "forest",
    "gallery",
    "layer_map",
    "norm_distribution",
    "norm_mismatch",
    "paired_delta",
    "save_figure",
    "strength_curve",
    "translator_cosine",
]
