"""The rows that a translator is trained on through the receiver; never one that is evaluated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from statebridge.data import overlap, row_identity, rows_sha256
from statebridge.data.training_texts import answer_names, held_out_answers
from statebridge.errors import TranslatorError
from statebridge.experiment.experiment import Causal
from statebridge.records import DatasetRow
from statebridge.tasks.declared_rows import resolve_dataset


@dataclass(frozen=True, slots=True)
class ChosenRows:
    """Rows to train and validate on, and where they come from.

    Attributes:
        dataset: The file's name, or `generated multi-hop rows`.
        dataset_sha256: Of the whole file, or of all generated rows.
        evaluated_left_out: Generated rows that were dropped because they are evaluated.
        repeated_left_out: Rows that were in the dataset before.
        held_out: Rows that were dropped because their answer is held out.
    """

    rows: tuple[DatasetRow, ...]
    dataset: str
    dataset_sha256: str
    evaluated_left_out: int
    repeated_left_out: int
    held_out: int = 0

    @property
    def sha256(self) -> str:
        """SHA-256 of the chosen rows in canonical form."""
        return rows_sha256(self.rows)


def choose_rows(causal: Causal, evaluated: Sequence[DatasetRow]) -> ChosenRows:
    """Return the first `limit` rows of the declared dataset, each once.

    Rows are the same where `statebridge.data.row_identity` is: context, question and answer.
    A generated row that is among the evaluated ones is left out, and so is any row whose answer
    is held out.

    Raises:
        TranslatorError: A row of a file is among the evaluated ones, or fewer than two rows.
        DatasetError: The file is missing, unreadable or not the one declared.
    """
    declared, sha256 = resolve_dataset(causal.rows)
    known = {row_identity(row) for row in evaluated}
    distinct: dict[str, DatasetRow] = {}
    left_out = repeated = held_out = 0
    held = held_out_answers(evaluated, causal.hold_out_answers)
    for row in declared:
        if causal.limit is not None and len(distinct) == causal.limit:
            break
        identity = row_identity(row)
        if identity in distinct:
            repeated += 1
        elif not held.isdisjoint(answer_names(row)):
            held_out += 1
        elif causal.rows.generate is not None and identity in known:
            left_out += 1
        else:
            distinct[identity] = row
    rows = tuple(distinct.values())
    name = "generated multi-hop rows" if causal.rows.path is None else Path(causal.rows.path).name
    shared = overlap(rows, evaluated)
    if shared:
        raise TranslatorError(
            f"causal.rows {name}: row {shared[0][0]} is evaluated (as row {shared[0][1]}), and so "
            f"are {len(shared) - 1} more; train on other rows than those of the experiment's "
            "dataset"
        )
    if len(rows) < 2:
        raise TranslatorError(
            f"causal.rows {name}: {len(rows)} rows to train on; at least 2 are needed, one of "
            "them for validation"
        )
    return ChosenRows(rows, name, sha256, left_out, repeated, held_out)
