"""What makes two rows the same row: context, question and answer together."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

from statebridge.records import DatasetRow


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
    """Return (row id in a, row id in b) for each row of `rows_a` that also stands in `rows_b`.

    Rows are the same when `row_identity` is; an empty list means that the two are disjoint.
    Where `rows_b` holds a row more than once, the first of them is named.
    """
    ids_b: dict[str, str] = {}
    for row in rows_b:
        ids_b.setdefault(row_identity(row), row.row_id)
    shared = ((row.row_id, ids_b.get(row_identity(row))) for row in rows_a)
    return [(row_a, row_b) for row_a, row_b in shared if row_b is not None]
