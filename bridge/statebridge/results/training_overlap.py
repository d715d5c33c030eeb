"""Which evaluated rows are new to the maps of a run, as its manifest records it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

from pydantic import ValidationError

from statebridge.data.training_texts import RowOverlap, TrainingTexts, row_overlaps
from statebridge.errors import ResultError
from statebridge.experiment.conditions import Condition, DeclaredCondition
from statebridge.records import DatasetRow, Record

FIELD = "training_overlap"
"""Name of the record in the manifest."""

SPLITS = ("answer_seen", "names_seen", "template_seen")
"""Attributes by which rows that are new to a map are split from those that are not."""

_LETTERS = {True: "y", False: "n", "all": "a", "some": "s", "none": "n", None: "-"}
_FLAGS = {"y": "yes", "n": "no"}
_NAMES = {"a": "all", "s": "some", "n": "none"}


class SetOverlap(Record):
    """How much of each evaluated row is in the training texts of one set of translators.

    A text has a letter for each row, in the order of `dataset.jsonl`: y or n, of the names a(ll),
    s(ome) or n(one), and `-` where the row has nothing to look for.
    """

    rows: int
    """Rows trained on."""
    passages: int
    """Passages of running text trained on."""
    answer_seen: str
    names_seen: str
    template_seen: str
    question_seen: str
    sentence_seen: str

    def labels(self, attribute: str, row_ids: Sequence[str]) -> dict[str, str]:
        """Return row id to label; rows that have nothing to look for are absent."""
        words = _NAMES if attribute == "names_seen" else _FLAGS
        pairs = zip(row_ids, getattr(self, attribute), strict=True)
        return {row_id: words[letter] for row_id, letter in pairs if letter != "-"}


class TrainingOverlap(Record):
    """The sets of translators that a run used."""

    sets: dict[str, SetOverlap | None]
    """By name, in their order; None where the translators' cards do not record it."""
    together: SetOverlap | None
    """All sets as one: what no map has seen. None where one does not record it."""


def training_overlap(
    rows: Sequence[DatasetRow], trained: Mapping[str, Sequence[TrainingTexts | None]]
) -> dict[str, Any]:
    """Return what a manifest states of the rows that run.

    Args:
        rows: Rows that run.
        trained: By name of a set: what its translators, one a seed, were trained on.
    """
    joined = {name: _joined(texts) for name, texts in trained.items()}
    found = TrainingOverlap(
        sets={name: _of_set(rows, texts) for name, texts in joined.items()},
        together=_of_set(rows, _joined(list(joined.values()))),
    )
    return found.model_dump(mode="json")


def _joined(texts: Sequence[TrainingTexts | None]) -> TrainingTexts | None:
    known = [one for one in texts if one is not None]
    if len(known) < len(texts) or not known:
        return None
    # The seeds of a fit have the same texts.
    distinct = [one for place, one in enumerate(known) if one not in known[:place]]
    return reduce(TrainingTexts.joined, distinct)


def _of_set(rows: Sequence[DatasetRow], texts: TrainingTexts | None) -> SetOverlap | None:
    if texts is None:
        return None
    found = row_overlaps(rows, texts)

    def letters(name: str) -> str:
        return "".join(_LETTERS[getattr(one, name)] for one in found)

    return SetOverlap(
        rows=texts.rows,
        passages=texts.passages,
        **{f"{name}_seen": letters(name) for name in RowOverlap.__slots__},
    )


def read_overlap(manifest: Mapping[str, Any] | None) -> TrainingOverlap | None:
    """Return what a manifest states; None of a run without maps, or of one before this record.

    Raises:
        ResultError: It is damaged.
    """
    stated = (manifest or {}).get(FIELD)
    if stated is None:
        return None
    try:
        return TrainingOverlap.model_validate(stated)
    except ValidationError as error:
        raise ResultError(
            f"the manifest's {FIELD} is damaged: {error.errors()[0]['msg']}; restore the file"
        ) from None


def row_facts(
    overlap: TrainingOverlap | None, condition: DeclaredCondition, row_ids: Sequence[str]
) -> dict[str, dict[str, str]]:
    """Return the facts of a cell's rows by attribute of `SPLITS`, then by row id.

    They are those of the condition's own map, or of all maps together where it has none.

    Raises:
        ResultError: The manifest is of other rows.
    """
    if overlap is None:
        return {}
    own = overlap.together
    if isinstance(condition, Condition) and condition.translates:
        own = overlap.sets.get(condition.translator or next(iter(overlap.sets), ""))
    if own is None:
        return {}
    if len(own.answer_seen) != len(row_ids):
        raise ResultError(
            f"the manifest's {FIELD} is of {len(own.answer_seen)} rows, but {len(row_ids)} ran; "
            "restore the file"
        )
    found = {attribute: own.labels(attribute, row_ids) for attribute in SPLITS}
    return {attribute: labels for attribute, labels in found.items() if labels}
