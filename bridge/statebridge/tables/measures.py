"""What readers call each measure, and how many decimals it gets, in every table."""

from __future__ import annotations

HEADERS = {
    "exact_match": "exact match",
    "normalized_exact_match": "normalised exact",
    "word_boundary_contains": "word-boundary",
    "legacy_contains": "legacy contains",
    "first_answer_span": "first-answer span",
    "task_correct": "task correct",
    "gold_logprob": "gold log-probability (nats)",
    "gold_rank": "gold rank",
    "kl_from_no_inject": "KL from no_inject (nats)",
    "prediction_changed": "predictions changed",
    "translated_norm_mean": "source norm",
    "receiver_norm_mean": "receiver norm",
    "injected_norm_mean": "injected norm",
    "source_cosine_mean": "cosine of source and own state",
}

DIGITS = {"gold_rank": 1, "translated_norm_mean": 2, "receiver_norm_mean": 2}
DEFAULT_DIGITS = 4
"""As published."""
