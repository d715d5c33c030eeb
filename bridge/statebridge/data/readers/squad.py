"""SQuAD files (arXiv 1606.05250; 2.0: arXiv 1806.03822).

The distributed files are one JSON object: `data`, a list of `title` and `paragraphs`, of which each
has a `context` and `qas` (`id`, `question`, `answers` with `text`; 2.0: `is_impossible`). The hub's
form has a record for each question: `id`, `title`, `context`, `question`, `answers: {text: [...]}`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from statebridge.data.answers import ALIASES, SCORING, join_names
from statebridge.data.column_files import column_reader
from statebridge.data.fields import chosen_answers
from statebridge.data.jsonl import iter_records
from statebridge.data.rows import Place, answer_type, id_field, make_row, text_field
from statebridge.errors import DatasetError
from statebridge.records import DatasetRow


def iter_squad(path: Path) -> Iterator[tuple[Place, DatasetRow]]:
    """Yield the rows of a SQuAD file; attributes: title, aliases, answer_type, scoring.

    The first annotator's answer is the gold answer, the others are its aliases. Questions without
    an answer (2.0) are left out.

    Raises:
        DatasetError: The file cannot be read, or a record has another shape.
    """
    for place, record in _questions(path):
        row_id = id_field(record, "id", place)
        answers = record.get("answers")
        texts = answers.get("text") if isinstance(answers, dict) else answers
        if texts == []:
            continue
        answer, *others = chosen_answers(record, "answers.text", place, row_id)
        title = record.get("title")
        yield (
            place,
            make_row(
                place,
                row_id=row_id,
                context=text_field(record, "context", place, row_id=row_id),
                question=text_field(record, "question", place, row_id=row_id),
                answer=answer,
                attributes={
                    **({"title": title} if isinstance(title, str) else {}),
                    **({ALIASES: join_names(others)} if others else {}),
                    "answer_type": answer_type(answer),
                    SCORING: "squad_exact_match",
                },
            ),
        )


def _questions(path: Path) -> Iterator[tuple[Place, dict[str, Any]]]:
    """Yield a record for each question, of either form."""
    for place, record in iter_records(path):
        if "data" not in record or column_reader(path):
            yield place, record
            continue
        number = 0
        try:
            for article in record["data"]:
                for paragraph in article["paragraphs"]:
                    for asked in paragraph["qas"]:
                        number += 1
                        shared = {"title": article.get("title"), "context": paragraph["context"]}
                        yield Place(path, number, "question"), {**asked, **shared}
        except (KeyError, TypeError, AttributeError):
            raise DatasetError(
                f"{path}, after question {number}: has another shape; SQuAD's `data` is a list of "
                "articles with paragraphs, with a context and qas each"
            ) from None
