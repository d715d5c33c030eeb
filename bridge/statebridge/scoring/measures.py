"""The measures: all that has a value for each row, and the one by which a task is judged.

A measure is computed from the receiver's text (`Measure.text`) or is a number that the run
recorded for the row, a field of `LaneResult`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from statebridge.records import ResultSet
from statebridge.scoring.metrics import METRICS, Metric

Kind = Literal["zero_one", "share", "number"]


@dataclass(frozen=True, slots=True)
class Measure:
    """A measure and what a reader of its numbers must know."""

    header: str
    """As it heads a column of a table."""
    kind: Kind = "zero_one"
    """`zero_one` for each row, a `share` from 0 to 1, or any `number`."""
    better: Literal["higher", "lower"] | None = "higher"
    """Direction of a better answer; None where neither is better."""
    digits: int = 4
    """Decimal places in a table, as published."""
    text: Metric | None = None
    """Function of the text and the gold answer; None for a recorded number."""


MEASURES: Mapping[str, Measure] = MappingProxyType(
    {
        "exact_match": Measure("exact match", text=METRICS["exact_match"]),
        "normalized_exact_match": Measure(
            "normalised exact", text=METRICS["normalized_exact_match"]
        ),
        "word_boundary_contains": Measure("word-boundary", text=METRICS["word_boundary_contains"]),
        "legacy_contains": Measure("legacy contains", text=METRICS["legacy_contains"]),
        "first_answer_span": Measure("first-answer span", text=METRICS["first_answer_span"]),
        "task_correct": Measure("task correct"),
        "gold_logprob": Measure("gold log-probability (nats)", "number"),
        "gold_rank": Measure("gold rank", "number", "lower", 1),
        "kl_from_no_inject": Measure("KL from no_inject (nats)", "number", None),
        "prediction_changed": Measure("predictions changed", better=None),
        "translated_norm_mean": Measure("source norm", "number", None, 2),
        "receiver_norm_mean": Measure("receiver norm", "number", None, 2),
        "injected_norm_mean": Measure("injected norm", "number", None),
        "source_cosine_mean": Measure("cosine of source and own state", "number", None),
    }
)
"""By name."""


def primary_metric(results: ResultSet) -> str:
    """Return the one measure by which the rows of a task are judged.

    A task declares it by the scoring convention that its rows name: `task_correct`. Rows that
    name none are judged by `word_boundary_contains`, the main metric of arXiv 2606.03280, and
    a run that decoded no text by `gold_logprob`.
    """
    texts = [row for cell in results.cells for row in cell.lanes if row.prediction is not None]
    if not texts:
        return "gold_logprob"
    if all(row.task_correct is not None for row in texts):
        return "task_correct"
    return "word_boundary_contains"
