"""bAbI task files (arXiv 1502.05698).

Each line starts with its number within the story; the number 1 opens a new story. A
statement is plain text; a question has three tab-separated parts: the question, the answer,
and the numbers of the statements that support it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from statebridge.data.answers import SCORING
from statebridge.data.files import iter_lines
from statebridge.data.readers.contexts import checked_context
from statebridge.data.rows import Place, answer_type, make_row
from statebridge.errors import DatasetError
from statebridge.records import DatasetRow

_NUMBERED = re.compile(r"([0-9]{1,9}) (.*)", re.DOTALL)


def iter_babi(path: Path, *, context: str = "gold") -> Iterator[tuple[Place, DatasetRow]]:
    """Yield the questions of a bAbI file; attributes: task, story, hops, answer_type, scoring.

    With `context="gold"` the context is the supporting statements, with `"all"` every
    statement of the story up to the question. Row ids are the file's name, the story
    (from 0) and the question in it (from 0): `qa2_two-supporting-facts_test-0000-000`.
    `hops` is the number of supporting statements.

    Raises:
        DatasetError: The file cannot be read, or a line is not as above.
    """
    wanted = checked_context(context)
    statements: dict[int, str] = {}
    story, question_index, previous = -1, 0, 0
    for line_number, line in iter_lines(path):
        if not line.strip():
            continue
        place = Place(path, line_number)
        number, text = _numbered(line, place)
        if number == 1:
            statements, question_index = {}, 0
            story += 1
        elif number != previous + 1:
            raise DatasetError(
                f"{place}: is numbered {number} after {previous}; "
                "lines count up, and 1 opens a story"
            )
        previous = number
        if "\t" not in text:
            statements[number] = text.strip()
            continue
        row_id = f"{path.stem}-{story:04d}-{question_index:03d}"
        question_index += 1
        question, answer, support = _question(text, place)
        missing = [n for n in support if n not in statements]
        if missing:
            raise DatasetError(
                f"{place}: supporting statement {missing[0]} does not stand before the question "
                f"(row id {row_id!r})"
            )
        if wanted == "gold" and not support:
            raise DatasetError(
                f"{place}: names no supporting statement (row id {row_id!r}); "
                "use the option context: all"
            )
        chosen = list(statements) if wanted == "all" else support
        yield (
            place,
            make_row(
                place,
                row_id=row_id,
                context=" ".join(statements[n] for n in chosen),
                question=question,
                answer=answer,
                attributes={
                    "task": path.stem,
                    "story": story,
                    "hops": len(support),
                    "answer_type": answer_type(answer),
                    SCORING: "babi",
                },
            ),
        )


def _numbered(line: str, place: Place) -> tuple[int, str]:
    match = _NUMBERED.fullmatch(line)
    if match is None:
        raise DatasetError(
            f"{place}: does not start with a number and a space; is this a bAbI task file?"
        )
    return int(match[1]), match[2]


def _question(text: str, place: Place) -> tuple[str, str, list[int]]:
    parts = [part.strip() for part in text.split("\t")]
    numbers = parts[2].split() if len(parts) == 3 else []
    if len(parts) not in (2, 3) or not all(re.fullmatch("[0-9]{1,9}", n) for n in numbers):
        raise DatasetError(
            f"{place}: a question line must be question, answer and supporting line numbers, "
            "separated by tabs"
        )
    # A statement that supports twice is still one statement; story order reads best.
    return parts[0], parts[1], sorted({int(n) for n in numbers})
