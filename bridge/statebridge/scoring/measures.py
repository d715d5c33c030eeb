"""The measures: all that has a value for each row, and the one by which a task is judged.

A measure is computed from the receiver's text (`Measure.text`) or is a number that the run
recorded for the row, a field of `LaneResult`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from statebridge.data.answers import as_number
from statebridge.records import LaneResult, ResultSet
from statebridge.scoring.containment import contains_answer
from statebridge.scoring.extraction import flexible_extract, strict_match
from statebridge.scoring.gold import Gold
from statebridge.scoring.likelihood import (
    choice_acc,
    choice_acc_norm,
    gold_logprob_ended,
    gold_logprob_per_byte,
    gold_logprob_per_token,
)
from statebridge.scoring.metrics import (
    METRICS,
    Metric,
    exact_match,
    first_answer_span,
    legacy_contains,
    normalized_exact_match,
    word_boundary_contains,
)
from statebridge.scoring.squad import hotpotqa_f1, squad_exact_match, squad_f1

Kind = Literal["zero_one", "share", "number"]

TextMeasure = Callable[[str, Gold], float | None]
"""(prediction, gold) to its value; true counts 1, None is no value."""
LaneMeasure = Callable[[LaneResult], float | None]
"""A lane to its value."""


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
    text: TextMeasure | None = None
    """Function of the text and its gold answers, for a measure of the text."""
    numbers: LaneMeasure | None = None
    """Function of recorded numbers; with neither function the measure is a recorded number."""


def _published(metric: Metric) -> TextMeasure:
    """Return a metric of arXiv 2606.03280, which knows one gold answer, as a measure."""
    return lambda prediction, gold: metric(prediction, gold.answer)


def _of_number(measure: Callable[[str, Gold], bool]) -> TextMeasure:
    """Return a measure that only rows whose answer is a number have."""
    return lambda prediction, gold: (
        None if as_number(gold.answer) is None else measure(prediction, gold)
    )


MEASURES: Mapping[str, Measure] = MappingProxyType(
    {
        "exact_match": Measure("exact match", text=_published(exact_match)),
        "normalized_exact_match": Measure(
            "normalised exact", text=_published(normalized_exact_match)
        ),
        "word_boundary_contains": Measure("word-boundary", text=_published(word_boundary_contains)),
        "legacy_contains": Measure("legacy contains", text=_published(legacy_contains)),
        "first_answer_span": Measure("first-answer span", text=_published(first_answer_span)),
        "contains_answer": Measure("contains the answer", text=contains_answer),
        "squad_exact_match": Measure("SQuAD exact match", text=squad_exact_match),
        "squad_f1": Measure("SQuAD F1", "share", text=squad_f1),
        "hotpotqa_f1": Measure("HotpotQA F1", "share", text=hotpotqa_f1),
        "strict_match": Measure("strict-match", text=_of_number(strict_match)),
        "flexible_extract": Measure("flexible-extract", text=_of_number(flexible_extract)),
        "task_correct": Measure("task correct"),
        "gold_logprob": Measure("gold log-probability (nats)", "number"),
        "gold_logprob_per_token": Measure(
            "gold log-probability per token (nats)", "number", numbers=gold_logprob_per_token
        ),
        "gold_logprob_per_byte": Measure(
            "gold log-probability per byte (nats)", "number", numbers=gold_logprob_per_byte
        ),
        "gold_logprob_ended": Measure(
            "gold log-probability with its end (nats)", "number", numbers=gold_logprob_ended
        ),
        "answer_logprob": Measure("log-probability of answer or alias (nats)", "number"),
        "choice_acc": Measure("most probable option", numbers=choice_acc),
        "choice_acc_norm": Measure("most probable option per byte", numbers=choice_acc_norm),
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


DEFAULT_MEASURES = tuple(
    name for name, measure in MEASURES.items() if measure.text is None or name in METRICS
)
"""Measures that are worked out where none are asked for: recorded numbers, what follows from them,
and the text metrics of arXiv 2606.03280. The other measures of a text take longer."""


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


def shown_measures(results: ResultSet) -> tuple[str, ...]:
    """Return the few measures that are shown where none are asked for, the primary one first."""
    return tuple(dict.fromkeys((primary_metric(results), "gold_logprob", "prediction_changed")))
