"""Biographies-style files, JSON Lines or a JSON array: facts on people, asked one at a time.

Fields: `context`, `question`, `answer`, and where there are any `aliases` (other right
answers, a list of texts) and `id`. The sets of this kind in arXiv 2501.14082 and in the
debate paper before it (arXiv 2305.14325) were not distributed in one fixed format.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from statebridge.data.answers import ALIASES, SCORING, listed_names
from statebridge.data.jsonl import iter_records
from statebridge.data.rows import Place, answer_type, id_field, make_row, text_field
from statebridge.records import DatasetRow

_USED = ("id", "context", "question", "answer", ALIASES)


def iter_biographies(path: Path) -> Iterator[tuple[Place, DatasetRow]]:
    """Yield the rows of such a file; attributes: aliases, answer_type, scoring, other scalars.

    Row ids are the records' `id`, or, where the first has none, the file's name and the row
    (from 0): `biographies-00000`.

    Raises:
        DatasetError: The file cannot be read, a field is missing or has another type.
    """
    with_ids = False
    for index, (place, record) in enumerate(iter_records(path)):
        with_ids = "id" in record if index == 0 else with_ids
        row_id = id_field(record, "id", place) if with_ids else f"{path.stem}-{index:05d}"
        answer = text_field(record, "answer", place, row_id=row_id)
        yield (
            place,
            make_row(
                place,
                row_id=row_id,
                context=text_field(record, "context", place, row_id=row_id),
                question=text_field(record, "question", place, row_id=row_id),
                answer=answer,
                attributes={
                    "answer_type": answer_type(answer),
                    SCORING: "exact",
                    **{
                        name: value
                        for name, value in record.items()
                        if name not in _USED
                        and (value is None or isinstance(value, str | int | float | bool))
                    },
                    ALIASES: listed_names(record.get(ALIASES, []), ALIASES, place, row_id),
                },
            ),
        )
