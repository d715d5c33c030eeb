"""The metric-disagreement audit: which lenient hits are no answers, and why (arXiv 2606.03280).

A disagreement is a row where legacy contains holds and normalised exact match does not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal, get_args

from pydantic import computed_field

from statebridge.errors import ResultError, nearest
from statebridge.records import CellResult, Direction, Record, ResultSet
from statebridge.scoring.aggregate import CellScore, score_cell
from statebridge.scoring.metrics import first_answer_span, word_boundary_contains

Label = Literal["verbose_correct", "substring_noise", "accidental_mention"]
LABELS: tuple[Label, ...] = get_args(Label)

RULES: dict[Label, tuple[str, str]] = {
    "verbose_correct": ("answer first", "the text's first answer span is the gold answer"),
    "substring_noise": ("in a longer word", "the gold answer is only inside a longer word"),
    "accidental_mention": (
        "elsewhere",
        "the gold answer is in the text as whole words, but not as its first answer span; a whole "
        "sentence that answers is among these, and only a reader can say whether it does",
    ),
}
"""Short words for each label, and what its rule finds: a rule cannot know an accident."""


def disagreement_label(prediction: str, gold: str) -> Label:
    """Return the label of a row that is known to be a disagreement."""
    if first_answer_span(prediction, gold):
        return "verbose_correct"
    if not word_boundary_contains(prediction, gold):
        return "substring_noise"
    return "accidental_mention"


PER_CELL = 5
"""Rows of each cell that the published audit looked at."""

_LENIENT, _STRICT = "legacy_contains", "normalized_exact_match"


class AuditRow(Record):
    """One disagreement."""

    direction: Direction
    condition: str
    seed: int | None
    row_id: str
    context: str | None
    """None, as `question`, where the results came without their dataset."""
    question: str | None
    gold: str
    prediction: str
    label: Label


class AuditedCell(Record):
    """How often the metrics disagree in one cell, whether looked at or not."""

    direction: Direction
    condition: str
    seed: int | None
    rows: int
    null_predictions: int
    """Rows without a prediction: there is nothing to disagree about."""
    disagreements: dict[Label, int]


class AuditReport(Record):
    """Disagreements of the main conditions: all counted, the first of each cell listed."""

    per_cell: int | None
    """How many rows of each cell are listed at most; None lists all."""
    rows: tuple[AuditRow, ...]
    cells: tuple[AuditedCell, ...]
    controls_left_out: tuple[str, ...]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def counts(self) -> dict[Label, int]:
        """Listed rows by label; every label is there."""
        return _by_label(row.label for row in self.rows)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def counts_by_condition(self) -> dict[str, dict[Label, int]]:
        """Listed rows by condition and label, conditions without one included."""
        return {
            name: _by_label(row.label for row in self.rows if row.condition == name)
            for name in dict.fromkeys(cell.condition for cell in self.cells)
        }


def audit(
    results: ResultSet,
    *,
    per_cell: int | None = PER_CELL,
    conditions: Sequence[str] | None = None,
) -> AuditReport:
    """Label the rows where legacy contains holds and normalised exact match does not.

    Neither the order of cells nor that of rows matters: cells are taken by direction,
    condition and seed, their rows by id, all sorted as text (the order of the published
    files), and the first `per_cell` disagreements of each are listed.

    Args:
        results: Result cells with predictions.
        per_cell: Rows of each cell to list at most, as published 5; None lists all.
        conditions: Conditions to audit; None takes the main ones, without the controls.

    Raises:
        ResultError: An unknown condition, nothing to audit, a `per_cell` below 1, or a cell
            that cannot be scored (no row, a row twice, an empty gold answer).
    """
    if per_cell is not None and per_cell < 1:
        raise ResultError(
            f"per_cell is {per_cell}; list at least 1 row of each cell, or all (None)"
        )
    chosen = [cell for cell in results.cells if _is_chosen(cell, conditions)]
    known = {cell.condition.name for cell in results.cells}
    for name in conditions or ():
        if name not in known:
            raise ResultError(f"no result is of the condition {name!r}; {nearest(name, known)}")
    if not chosen:
        raise ResultError(
            "there is nothing to audit: no result of a main condition was given "
            f"(controls: {', '.join(sorted(known)) or 'none'})"
        )
    chosen.sort(key=lambda c: (c.direction, c.condition.name, str(c.seed), str(c.source)))
    rows: list[AuditRow] = []
    cells: list[AuditedCell] = []
    for cell in chosen:
        found, summary = _audit_cell(cell, results)
        rows += found[:per_cell]
        cells.append(summary)
    left_out = known - {cell.condition.name for cell in chosen}
    return AuditReport(
        per_cell=per_cell,
        rows=tuple(rows),
        cells=tuple(cells),
        controls_left_out=tuple(sorted(left_out)) if conditions is None else (),
    )


def _is_chosen(cell: CellResult, conditions: Sequence[str] | None) -> bool:
    if conditions is not None:
        return cell.condition.name in conditions
    # The controls write what holds nothing of the row that the sender read.
    condition = cell.condition
    return not condition.writes or condition.carries_sender or condition.role == "unknown"


def _audit_cell(cell: CellResult, results: ResultSet) -> tuple[list[AuditRow], AuditedCell]:
    score = score_cell(cell, (_LENIENT, _STRICT))
    found = []
    for row in sorted(cell.lanes, key=lambda row: row.row_id):
        if row.prediction is None or not _disagree(score, row.row_id):
            continue
        example = results.dataset.get(row.row_id)
        found.append(
            AuditRow(
                direction=cell.direction,
                condition=cell.condition.name,
                seed=cell.seed,
                row_id=row.row_id,
                context=None if example is None else example.context,
                question=None if example is None else example.question,
                gold=row.gold,
                prediction=row.prediction,
                label=disagreement_label(row.prediction, row.gold),
            )
        )
    return found, AuditedCell(
        direction=cell.direction,
        condition=cell.condition.name,
        seed=cell.seed,
        rows=len(cell.lanes),
        null_predictions=score.missing_predictions,
        disagreements=_by_label(row.label for row in found),
    )


def _disagree(score: CellScore, row_id: str) -> bool:
    return score.values[_LENIENT][row_id] == 1.0 and score.values[_STRICT][row_id] == 0.0


def _by_label(labels: Iterable[Label]) -> dict[Label, int]:
    counts = Counter(labels)
    return {label: counts[label] for label in LABELS}
