"""Dataset rows: the checks that all of them pass, whatever their format, and their identity."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from statebridge.errors import DatasetError, nearest
from statebridge.records import DatasetRow

Attributes = Mapping[str, str | int | float | bool | None]


@dataclass(frozen=True, slots=True)
class Place:
    """Place of a row in a file, for messages."""

    path: Path
    number: int
    """Counts from 1."""
    unit: str = "line"
    """`line`, or `row` where the file is one JSON array."""

    def __str__(self) -> str:
        return f"{self.path}, {self.unit} {self.number}"


def make_row(
    place: Place,
    *,
    row_id: str,
    context: str,
    question: str,
    answer: str,
    attributes: Attributes | None = None,
) -> DatasetRow:
    """Return a row after checking it; an empty context is allowed, nothing else empty is.

    Raises:
        DatasetError: The question or answer is empty, or a text cannot be written as UTF-8.
    """
    checked_text(row_id, "id", place, row_id)
    checked_text(context, "context", place, row_id, may_be_empty=True)
    checked_text(question, "question", place, row_id)
    checked_text(answer, "answer", place, row_id)
    kept = dict(attributes or {})
    for name, value in kept.items():
        checked_text(name, name, place, row_id, may_be_empty=True)
        if isinstance(value, str):
            checked_text(value, name, place, row_id, may_be_empty=True)
    return DatasetRow(row_id, context, question, answer, kept)


def checked_text(
    value: str, field: str, place: Place, row_id: str | None = None, *, may_be_empty: bool = False
) -> str:
    """Return a text after checking it.

    Raises:
        DatasetError: It is empty (or only white space), or cannot be written as UTF-8.
    """
    of_row = "" if row_id is None else f" (row id {row_id!r})"
    if not may_be_empty and not value.strip():
        raise DatasetError(f"{place}: field {field!r} is empty{of_row}; each row needs text there")
    if not encodable(value):
        raise DatasetError(
            f"{place}: field {field!r} holds half of a surrogate pair{of_row}; "
            "write whole characters"
        )
    return value


def encodable(text: str) -> bool:
    """Whether a text can be written as UTF-8 (JSON escapes can smuggle in half characters)."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def text_field(
    record: Mapping[str, Any], field: str, place: Place, *, row_id: str | None = None
) -> str:
    """Return a field that must be there and must be text.

    Raises:
        DatasetError: It is missing, or another type.
    """
    of_row = "" if row_id is None else f" (row id {row_id!r})"
    if field not in record:
        hint = nearest(field, record) if record else "the row has no field at all"
        raise DatasetError(f"{place}: field {field!r} is missing{of_row}; {hint}")
    value = record[field]
    if not isinstance(value, str):
        raise DatasetError(f"{place}: field {field!r} is {kind(value)}{of_row}; it must be text")
    return value


def id_field(record: Mapping[str, Any], field: str, place: Place) -> str:
    """Return a row id: text, or an integer, which is written out.

    Raises:
        DatasetError: It is missing, empty, or another type.
    """
    value = record.get(field)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return checked_text(text_field(record, field, place), field, place)


def kind(value: Any) -> str:
    """Name the type of a JSON value as a reader of the file would."""
    names = {
        type(None): "null",
        bool: "true or false",
        int: "a number",
        float: "a number",
        str: "text",
        list: "a list",
        dict: "an object",
    }
    return names.get(type(value), type(value).__name__)


def answer_type(answer: str) -> str:
    """Return the answer's type by the rule of the published data.

    `number` if all digits, `phrase` if more than one word, else `entity`.
    """
    if answer.isdigit():
        return "number"
    return "phrase" if len(answer.split()) > 1 else "entity"


def distinct_rows(placed: Iterable[tuple[Place, DatasetRow]], path: Path) -> Iterator[DatasetRow]:
    """Pass rows on; refuse a row id that was there before, and a dataset without a row.

    Raises:
        DatasetError: A row id is given twice, or there is no row.
    """
    first: dict[str, int] = {}
    for place, row in placed:
        if row.row_id in first:
            raise DatasetError(
                f"{place}: row id {row.row_id!r} was already given in {place.unit} "
                f"{first[row.row_id]}; ids must be distinct"
            )
        first[row.row_id] = place.number
        yield row
    if not first:
        raise DatasetError(f"{path}: holds no row; give a file with at least one")


def row_identity_sha256(context: str, question: str, answer: str) -> str:
    """Return the SHA-256 of the JSON object of the three (arXiv 2606.03280, `dedup_key_sha256`).

    Keys sorted, non-ASCII kept, Python's default separators, UTF-8.
    """
    key = {"context": context, "question": question, "answer": answer}
    text = json.dumps(key, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def row_identity(row: DatasetRow) -> str:
    """Return `row_identity_sha256` of a row; its id and attributes do not matter."""
    return row_identity_sha256(row.context, row.question, row.answer)


def overlap(rows_a: Iterable[DatasetRow], rows_b: Iterable[DatasetRow]) -> list[tuple[str, str]]:
    """Return (row id in a, row id in b) for each row of `rows_a` that is also in `rows_b`.

    Rows are the same when `row_identity` is; an empty list means that the two are disjoint.
    Where `rows_b` holds a row more than once, the first of them is named.
    """
    ids_b: dict[str, str] = {}
    for row in rows_b:
        ids_b.setdefault(row_identity(row), row.row_id)
    shared = ((row.row_id, ids_b.get(row_identity(row))) for row in rows_a)
    return [(row_a, row_b) for row_a, row_b in shared if row_b is not None]
