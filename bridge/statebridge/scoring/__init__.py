"""Scoring: the five text metrics, and scores per row, cell and condition."""

from __future__ import annotations

from statebridge.scoring.aggregate import (
    MEASURES,
    ROW_NUMBERS,
    CellScore,
    ConditionScore,
    Mean,
    SeedMean,
    row_values,
    score_cell,
    score_conditions,
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
    "MEASURES",
    "METRICS",
    "ROW_NUMBERS",
    "CellScore",
    "ConditionScore",
    "Mean",
    "Metric",
    "SeedMean",
    "exact_match",
    "first_answer_span",
    "legacy_contains",
    "normalize",
    "normalized_exact_match",
    "row_values",
    "score_cell",
    "score_conditions",
    "word_boundary_contains",
]
