"""MMLU files (arXiv 2009.03300), one subject each.

`.csv` as distributed: no header; question, four choices, the letter of the right one. Any
other name: JSON Lines or a JSON array as dataset hubs export it: `question`, `choices`,
`answer` (an index from 0, or a letter), and `subject` where there is one. The choices are
part of the question, one a line: `A. ...`. For the option `context` see
`statebridge.data.readers.contexts`.
"""

from __future__ import annotations

import string
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from statebridge.data.answers import OPTIONS, SCORING, join_names
from statebridge.data.column_files import iter_csv
from statebridge.data.jsonl import iter_records
from statebridge.data.readers.contexts import in_context
from statebridge.data.rows import Place, checked_text, kind, make_row, text_field
from statebridge.errors import DatasetError
from statebridge.records import DatasetRow

_FIELDS = ("question", "A", "B", "C", "D", "answer")
_SPLITS = ("_test", "_val", "_dev")


def iter_mmlu(path: Path, *, context: str = "none") -> Iterator[tuple[Place, DatasetRow]]:
    """Yield the questions of an MMLU file; attributes: subject, options, answer_type, scoring.

    The answer is the letter. `subject` is the record's, else the file's name without
    `_test`, `_val` or `_dev`. Row ids are the file's name and the question (from 0):
    `virology_test-00000`.

    Raises:
        DatasetError: The file cannot be read, a field is missing, or an answer is not one
            of the choices.
    """
    shown = in_context(context)
    read = _csv_records if path.suffix.lower() == ".csv" else iter_records
    subject = path.stem
    for split in _SPLITS:
        subject = subject.removesuffix(split)
    for index, (place, record) in enumerate(read(path)):
        row_id = f"{path.stem}-{index:05d}"
        choices = _choices(record, place, row_id)
        letters = string.ascii_uppercase[: len(choices)]
        asked = checked_text(
            text_field(record, "question", place, row_id=row_id), "question", place, row_id
        )
        lines = (f"{letter}. {text}" for letter, text in zip(letters, choices, strict=True))
        question = "\n".join((asked, *lines))
        yield (
            place,
            make_row(
                place,
                row_id=row_id,
                context=question if shown else "",
                question=question,
                answer=_letter(record, letters, place, row_id),
                attributes={
                    "subject": text_field({"subject": subject, **record}, "subject", place),
                    OPTIONS: join_names(letters),
                    "answer_type": "letter",
                    SCORING: "choice_letter",
                },
            ),
        )


def _csv_records(path: Path) -> Iterator[tuple[Place, dict[str, Any]]]:
    for place, fields in iter_csv(path):
        if len(fields) != len(_FIELDS):
            raise DatasetError(
                f"{place}: has {len(fields)} fields; it must have {len(_FIELDS)}: question, "
                "A, B, C, D and the letter of the answer"
            )
        record: dict[str, Any] = dict(zip(_FIELDS, fields, strict=True))
        record["choices"] = fields[1:5]
        yield place, record


def _choices(record: dict[str, Any], place: Place, row_id: str) -> Sequence[str]:
    choices = record.get("choices")
    if not isinstance(choices, list) or not all(isinstance(c, str) and c.strip() for c in choices):
        state = "has another shape" if "choices" in record else "is missing"
        raise DatasetError(
            f"{place}: field 'choices' {state} (row id {row_id!r}); it must be a list of texts"
        )
    if not 2 <= len(choices) <= 26:
        raise DatasetError(
            f"{place}: field 'choices' holds {len(choices)} (row id {row_id!r}); give 2 to 26"
        )
    return choices


def _letter(record: dict[str, Any], letters: str, place: Place, row_id: str) -> str:
    answer = record.get("answer")
    if isinstance(answer, int) and not isinstance(answer, bool) and 0 <= answer < len(letters):
        return letters[answer]
    if isinstance(answer, str) and len(answer.strip()) == 1 and answer.strip() in letters:
        return answer.strip()
    if "answer" not in record:
        state = "is missing"
    elif isinstance(answer, str | int) and not isinstance(answer, bool):
        state = f"is {answer!r}"
    else:
        state = f"is {kind(answer)}"
    wanted = f"a letter from A to {letters[-1]}"
    if place.path.suffix.lower() != ".csv":
        wanted += f", or an index from 0 to {len(letters) - 1}"
    raise DatasetError(f"{place}: field 'answer' {state} (row id {row_id!r}); it must be {wanted}")
