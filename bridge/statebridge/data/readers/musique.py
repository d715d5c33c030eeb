"""MuSiQue files (arXiv 2108.00573), JSON Lines.

Fields: `id`, `paragraphs` (`title`, `paragraph_text`, `is_supporting`), `question`,
`question_decomposition`, `answer`, `answer_aliases`, `answerable`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from statebridge.data.answers import ALIASES, SCORING, listed_names
from statebridge.data.jsonl import iter_records
from statebridge.data.readers.contexts import Paragraph, checked_context, joined
from statebridge.data.rows import Place, answer_type, id_field, make_row, text_field
from statebridge.errors import DatasetError, nearest
from statebridge.records import DatasetRow

_UNANSWERABLE = ("drop", "keep")
_ALIASES = "answer_aliases"


def iter_musique(
    path: Path, *, context: str = "gold", unanswerable: str = "drop"
) -> Iterator[tuple[Place, DatasetRow]]:
    """Yield the rows of a MuSiQue file.

    Attributes: aliases (where there are any), hops, answerable, answer_type, scoring.

    The "full" files hold each question twice under one id, once with a gold paragraph taken
    away: `unanswerable="drop"` leaves those out, `"keep"` marks them `answerable` false and
    adds `__unanswerable` to their ids.

    Raises:
        DatasetError: The file cannot be read, or a record of it is not as above. The test
            files, which have no answers, are refused.
    """
    wanted = checked_context(context)
    if unanswerable not in _UNANSWERABLE:
        raise DatasetError(
            f"option unanswerable: {unanswerable!r}: {nearest(unanswerable, _UNANSWERABLE)}"
        )
    for place, record in iter_records(path):
        row_id = id_field(record, "id", place)
        answerable = _flag(record, "answerable", place, default=True)
        if not answerable:
            if unanswerable == "drop":
                continue
            row_id += "__unanswerable"
        paragraphs = _paragraphs(record, place)
        steps = record.get("question_decomposition")
        hops = len(steps) if isinstance(steps, list) and steps else sum(p.gold for p in paragraphs)
        answer = text_field(record, "answer", place, row_id=row_id)
        aliases = listed_names(record.get(_ALIASES, []), _ALIASES, place, row_id)
        yield (
            place,
            make_row(
                place,
                row_id=row_id,
                context=joined(paragraphs, wanted, place, row_id),
                question=text_field(record, "question", place, row_id=row_id),
                answer=answer,
                attributes={
                    **({ALIASES: aliases} if aliases else {}),
                    "hops": hops,
                    "answerable": answerable,
                    "answer_type": answer_type(answer),
                    SCORING: "squad_exact_match",
                },
            ),
        )


def _paragraphs(record: dict[str, Any], place: Place) -> list[Paragraph]:
    paragraphs = record.get("paragraphs")
    if not isinstance(paragraphs, list) or not all(isinstance(p, dict) for p in paragraphs):
        state = "has another shape" if "paragraphs" in record else "is missing"
        raise DatasetError(
            f"{place}: field 'paragraphs' {state}; it must be a list of objects with "
            "title, paragraph_text and is_supporting"
        )
    return [
        Paragraph(
            text_field(paragraph, "title", place),
            text_field(paragraph, "paragraph_text", place).strip(),
            _flag(paragraph, "is_supporting", place, default=False),
        )
        for paragraph in paragraphs
    ]


def _flag(record: dict[str, Any], field: str, place: Place, *, default: bool) -> bool:
    value = record.get(field, default)
    if not isinstance(value, bool):
        raise DatasetError(f"{place}: field {field!r} is {value!r}; it must be true or false")
    return value
