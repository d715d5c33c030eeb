"""Rows that a caller has in memory, kept in a file beside the results."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from statebridge.data.files import atomic_writer, make_folder
from statebridge.data.jsonl import canonical_line, read_jsonl, row_line
from statebridge.errors import DatasetError
from statebridge.records import DatasetRow

GIVEN_ROWS = "rows_given.jsonl"


def given_dataset(rows: Iterable[DatasetRow | Mapping[str, Any]], folder: Path) -> dict[str, str]:
    """Write rows into a folder, and return the `dataset` of an experiment that has them.

    Args:
        rows: `DatasetRow`, or mappings with the fields of a JSONL file.
        folder: The run directory; made if needed.

    Raises:
        DatasetError: No rows, a row that is neither, is no JSON or lacks a field, or other rows
            than the folder holds already.
        EnvironmentFault: The file cannot be written.
    """
    lines = [_line(number, row) for number, row in enumerate(rows, 1)]
    if not lines:
        raise DatasetError("rows: none given; give one at least, or leave rows out")
    content, path = b"".join(lines), folder / GIVEN_ROWS
    if path.is_file() and path.read_bytes() != content:
        raise DatasetError(
            f"rows: {path} holds other rows, with which this run was started; give these, or "
            "another directory"
        )
    make_folder(folder)
    with atomic_writer(path) as stream:
        stream.write(content)
    try:
        read_jsonl(path)
    except DatasetError:
        path.unlink()  # the next call may give other rows
        raise
    return {"path": str(path)}


def _line(number: int, row: object) -> bytes:
    if isinstance(row, DatasetRow):
        return row_line(row)
    if not isinstance(row, Mapping):
        raise DatasetError(
            f"rows: row {number} is {type(row).__name__}; give DatasetRow, or mappings with id, "
            "context, question and answer"
        )
    try:
        return canonical_line(json.loads(json.dumps(dict(row), allow_nan=False)))
    except (TypeError, ValueError) as error:
        raise DatasetError(f"rows: row {number} is not JSON: {error}") from None
