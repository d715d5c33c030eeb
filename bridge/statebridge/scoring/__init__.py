"""Scoring: the five text metrics, and scores per row, cell and condition."""

from __future__ import annotations

from statebridge.scoring.aggregate import (
    CellScore,
    ConditionScore,
    Mean,
    SeedMean,
    row_values,
    score_cell,
    score_conditions,
)
from statebridge.scoring.measures import (
    DEFAULT_MEASURES,
    MEASURES,
    Measure,
    primary_metric,
    shown_measures,
)
from statebridge.scoring.metrics import (
    METRICS,
    Metric,
    exact_match,
    first_answer_span,
    legacy_contains,
    normalize,
    normalized_exact_match,
    word_boundary_contains,
)

__all__ = [
    "DEFAULT_MEASURES",
    "MEASURES",
    "METRICS",
    "CellScore",
    "ConditionScore",
    "Mean",
    "Measure",
    "Metric",
    "SeedMean",
    "exact_match",
    "first_answer_span",
    "legacy_contains",
    "normalize",
    "normalized_exact_match",
    "primary_metric",
    "row_values",
    "score_cell",
    "score_conditions",
    "shown_measures",
    "word_boundary_contains",
]
