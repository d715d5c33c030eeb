"""Records of a JSON file that is one array, or JSON Lines; which one is seen from its start."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from statebridge.data.jsonl import iter_objects
from statebridge.data.rows import Place, kind
from statebridge.data.strict_json import JsonError, parse
from statebridge.data.text_files import iter_lines, read_text
from statebridge.errors import DatasetError


def iter_records(path: Path) -> Iterator[tuple[Place, dict[str, Any]]]:
    """Yield (place, object) for each record; an array is read into memory whole.

    Raises:
        DatasetError: The file cannot be read, is not strict JSON, or a record is no object.
    """
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
