"""GSM8K files (arXiv 2110.14168), JSON Lines: `question`, and `answer` ending `#### N`.

For the option `context` see `statebridge.data.readers.contexts`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from statebridge.data.answers import SCORING, as_number
from statebridge.data.jsonl import iter_records
from statebridge.data.readers.contexts import in_context
from statebridge.data.rows import Place, make_row, text_field
from statebridge.errors import DatasetError
from statebridge.records import DatasetRow

_MARK = "####"


def iter_gsm8k(path: Path, *, context: str = "none") -> Iterator[tuple[Place, DatasetRow]]:
    """Yield the problems of a GSM8K file; attributes: answer_type, steps, scoring.

    The answer is the number after the last `####`, without commas between thousands;
    `steps` counts the lines of the worked solution before it. Row ids are the file's name
    and the problem (from 0): `test-00000`.

    Raises:
        DatasetError: The file cannot be read, a field is missing, or an answer does not end
            in `####` and a number.
    """
    shown = in_context(context)
    for index, (place, record) in enumerate(iter_records(path)):
        row_id = f"{path.stem}-{index:05d}"
        question = text_field(record, "question", place, row_id=row_id)
        solution, mark, final = text_field(record, "answer", place, row_id=row_id).rpartition(_MARK)
        number = final.strip().replace(",", "")
        if not mark or as_number(number) is None:
            found = f"ends {final.strip()[-20:]!r}" if mark else f"has no {_MARK}"
            raise DatasetError(
                f"{place}: field 'answer' {found} (row id {row_id!r}); "
                f"it must end in '{_MARK} ' and a number"
            )
        yield (
            place,
            make_row(
                place,
                row_id=row_id,
                context=question if shown else "",
                question=question,
                answer=number,
                attributes={
                    "answer_type": "number",
                    "steps": sum(bool(line.strip()) for line in solution.splitlines()),
                    SCORING: "final_number",
                },
            ),
        )
