"""Rows as JSON Lines: reading any field names, writing one canonical form."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from statebridge.data.answers import ALIASES, NAME_LISTS, join_names, listed_names, split_names
from statebridge.data.column_files import column_reader
from statebridge.data.fields import chosen_answers, chosen_text, roots
from statebridge.data.files import atomic_writer, iter_lines, read_text
from statebridge.data.rows import (
    Place,
    distinct_rows,
    encodable,
    id_field,
    kind,
    make_row,
)
from statebridge.data.strict_json import JsonError, parse
from statebridge.errors import DatasetError
from statebridge.records import DatasetRow

ID_FIELDS = ("clean_eval_id", "id")
"""Where a row id is looked for, in this order, when no field is named."""


@dataclass(frozen=True, slots=True)
class FieldMap:
    """Which field of a row holds what: a name, or as `statebridge.data.fields` has it."""

    id: str | None = None
    """None: `clean_eval_id`, else `id` (as the first row has it), else `row_000000`, ..."""
    context: str = "context"
    question: str = "question"
    answer: str = "answer"
    """The right answer, or a list of them: the first is the answer, the others are its aliases."""

    def used(self) -> set[str]:
        """Return the fields of a record that are read."""
        return roots(self.context) | roots(self.question) | roots(self.answer)


def iter_objects(path: Path) -> Iterator[tuple[Place, dict[str, Any]]]:
    """Yield (place, object) for each line of a JSON Lines file; blank lines are passed over.

    A file with columns (Parquet, Arrow, CSV) has an object for each of its rows.

    Raises:
        DatasetError: The file cannot be read, or a line is not one strict JSON object.
    """
    if columns := column_reader(path):
        yield from columns(path)
        return
    for number, line in iter_lines(path):
        if not line.strip():
            continue
        place = Place(path, number)
        try:
            value = parse(line)
        except JsonError as error:
            column = f", column {error.column}" if error.column else ""
            raise DatasetError(
                f"{place}{column}: {error.problem}; each line must be one JSON object"
            ) from None
        if not isinstance(value, dict):
            raise DatasetError(f"{place}: is {kind(value)}; each line must be one JSON object")
        yield place, value


def iter_jsonl(
    path: str | Path | Sequence[Path],
    fields: FieldMap | None = None,
    unusable: list[str] | None = None,
) -> Iterator[DatasetRow]:
    """Yield the rows of a JSON Lines file, streaming (only the row ids are kept in memory).

    Text is taken verbatim. Every other field whose value is text, a number, true, false or
    null becomes an attribute, and so do `aliases`, `options` and `decoys`, lists of texts; other
    lists and objects are left out.

    Args:
        path: The file, or the files of one dataset in their order.
        fields: Which field holds what.
        unusable: Where given, a row that is wrong is left out, and the reason is added here.

    Raises:
        DatasetError: The file cannot be read; a line is not a JSON object; a field is
            missing, is not text, or is empty where it must not be; a row id is repeated;
            there is no row. Raised when the iterator comes to it.
    """
    paths = [Path(path)] if isinstance(path, str | Path) else list(path)
    yield from distinct_rows(_placed_rows(paths, fields or FieldMap(), unusable), paths[0])


def read_jsonl(path: str | Path, fields: FieldMap | None = None) -> list[DatasetRow]:
    """Return the rows of a JSON Lines file; see `iter_jsonl`."""
    return list(iter_jsonl(path, fields))


def _placed_rows(
    paths: Sequence[Path], fields: FieldMap, unusable: list[str] | None
) -> Iterator[tuple[Place, DatasetRow]]:
    id_name = fields.id
    used = fields.used()
    records = (placed for path in paths for placed in iter_objects(path))
    for index, (place, record) in enumerate(records):
        if index == 0 and id_name is None:
            id_name = next((name for name in ID_FIELDS if name in record), None)
        try:
            row = _row(record, place, index, id_name, fields, used)
        except DatasetError as error:
            if unusable is None:
                raise
            unusable.append(str(error))
        else:
            yield place, row


def _row(
    record: Mapping[str, Any],
    place: Place,
    index: int,
    id_name: str | None,
    fields: FieldMap,
    used: set[str],
) -> DatasetRow:
    row_id = f"row_{index:06d}" if id_name is None else id_field(record, id_name, place)
    context = chosen_text(record, fields.context, place, row_id)
    question = chosen_text(record, fields.question, place, row_id)
    answer, *others = chosen_answers(record, fields.answer, place, row_id)
    attributes = _attributes(record, {id_name, *used}, place, row_id)
    if others:
        known = split_names(str(attributes.get(ALIASES) or ""))
        attributes[ALIASES] = join_names(dict.fromkeys((*others, *known)))
    return make_row(
        place,
        row_id=row_id,
        context=context,
        question=question,
        answer=answer,
        attributes=attributes,
    )


def _attributes(
    record: Mapping[str, Any], used: Collection[str | None], place: Place, row_id: str
) -> dict[str, Any]:
    attributes: dict[str, Any] = {}
    for name, value in record.items():
        if name in used:
            continue
        if name in NAME_LISTS and isinstance(value, list | dict):
            if names := listed_names(value, name, place, row_id):
                attributes[name] = names
        elif value is None or isinstance(value, str | int | float | bool):
            attributes[name] = value
    return attributes


def left_out_fields(
    path: Path, rows: Iterable[DatasetRow], fields: FieldMap | None = None
) -> dict[str, int]:
    """Return the fields of a JSON Lines file that its rows do not hold, and in how many rows.

    These are lists and objects that are not empty.

    Args:
        path: The file.
        rows: Its rows, as `iter_jsonl` gave them.
        fields: As given to `iter_jsonl`.
    """
    fields = fields or FieldMap()
    used = {fields.id, *ID_FIELDS, *fields.used()}
    counts: dict[str, int] = {}
    for (_, record), row in zip(iter_objects(path), rows, strict=False):
        for name, value in record.items():
            if isinstance(value, list | dict) and value and name not in {*used, *row.attributes}:
                counts[name] = counts.get(name, 0) + 1
    return counts


def canonical_line(record: dict[str, Any]) -> bytes:
    """Return one JSON object as a line: keys sorted, non-ASCII kept, UTF-8, LF.

    Raises:
        DatasetError: A number in it is not finite.
    """
    try:
        text = json.dumps(record, sort_keys=True, ensure_ascii=False, allow_nan=False)
    except ValueError:
        raise DatasetError(
            f"row {record.get('id')!r}: holds a number that is not finite; JSON cannot hold it"
        ) from None
    return text.encode("utf-8") + b"\n"


def row_line(row: DatasetRow) -> bytes:
    """Return a row as a canonical JSON line: its attributes beside `id`, `context`, ...

    Raises:
        DatasetError: An attribute has the name of one of those four, or holds what JSON
            cannot.
    """
    texts = {
        "id": row.row_id,
        "context": row.context,
        "question": row.question,
        "answer": row.answer,
    }
    taken = texts.keys() & row.attributes.keys()
    if taken:
        raise DatasetError(
            f"row {row.row_id!r}: attribute {min(taken)!r} has the name of a row field; rename it"
        )
    for name, value in (*texts.items(), *row.attributes.items()):
        if isinstance(value, str) and not encodable(value):
            raise DatasetError(f"row {row.row_id!r}: {name!r} holds half of a surrogate pair")
    return canonical_line({**row.attributes, **texts})


def rows_sha256(rows: Iterable[DatasetRow]) -> str:
    """Return the SHA-256 of the file that `write_jsonl` would write."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(row_line(row))
    return digest.hexdigest()


def write_jsonl(rows: Iterable[DatasetRow], path: str | Path) -> str:
    """Write rows as canonical JSON Lines, whole or not at all; return the file's SHA-256.

    `read_jsonl(path, FieldMap(id="id"))` gives the same rows back.

    Raises:
        DatasetError: A row cannot be written as JSON, or there is no row.
        EnvironmentFault: The file cannot be written.
    """
    digest = hashlib.sha256()
    count = 0
    with atomic_writer(path) as stream:
        for row in rows:
            line = row_line(row)
            digest.update(line)
            stream.write(line)
            count += 1
        if not count:
            raise DatasetError(f"{path}: there is no row to write; give at least one")
    return digest.hexdigest()


def iter_records(path: Path) -> Iterator[tuple[Place, dict[str, Any]]]:
    """Yield (place, object) for each record; an array is read into memory whole.

    Raises:
        DatasetError: The file cannot be read, is not strict JSON, or a record is no object.
    """
    if columns := column_reader(path):
        yield from columns(path)
        return
    first = next((line.lstrip() for _, line in iter_lines(path) if line.strip()), "")
    if not first.startswith("["):
        yield from iter_objects(path)
        return
    try:
        records = parse(read_text(path))
    except JsonError as error:
        where = f", line {error.line}, column {error.column}" if error.line else ""
        raise DatasetError(
            f"{path}{where}: {error.problem}; the file must be a JSON array of objects"
        ) from None
    for number, record in enumerate(records, start=1):
        place = Place(path, number, "row")
        if not isinstance(record, dict):
            raise DatasetError(f"{place}: is {kind(record)}; each row must be an object")
        yield place, record
