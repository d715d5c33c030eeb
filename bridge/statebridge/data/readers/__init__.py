"""Datasets in the formats that users have on disk, each by its name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from statebridge.data.jsonl import FieldMap, iter_jsonl
from statebridge.data.readers.babi import iter_babi
from statebridge.data.readers.biographies import iter_biographies
from statebridge.data.readers.gsm8k import iter_gsm8k
from statebridge.data.readers.hotpotqa import iter_2wikimultihopqa, iter_hotpotqa
from statebridge.data.readers.lm_eval_task import iter_lm_eval
from statebridge.data.readers.mmlu import iter_mmlu
from statebridge.data.readers.musique import iter_musique
from statebridge.data.readers.squad import iter_squad
from statebridge.data.rows import Place, distinct_rows
from statebridge.errors import DatasetError, nearest
from statebridge.records import DatasetRow


@dataclass(frozen=True, slots=True)
class _Format:
    reader: Callable[..., Iterator[tuple[Place, DatasetRow]]]
    options: tuple[str, ...]


_FORMATS = {
    "hotpotqa": _Format(iter_hotpotqa, ("context",)),
    "musique": _Format(iter_musique, ("context", "unanswerable")),
    "2wikimultihopqa": _Format(iter_2wikimultihopqa, ("context", "aliases")),
    "lm-eval": _Format(iter_lm_eval, ("context", "filter", "fewshot")),
    "squad": _Format(iter_squad, ()),
    "babi": _Format(iter_babi, ("context",)),
    "gsm8k": _Format(iter_gsm8k, ("context",)),
    "mmlu": _Format(iter_mmlu, ("context",)),
    "biographies": _Format(iter_biographies, ()),
}
FORMATS = ("jsonl", *_FORMATS)


def read_dataset(
    path: str | Path | Sequence[Path],
    format: str = "jsonl",
    fields: FieldMap | None = None,
    unusable: list[str] | None = None,
    **options: str,
) -> list[DatasetRow]:
    """Return the rows of a dataset file, checked and in the order of the file.

    Args:
        path: The file, or the files of one dataset in their order.
        format: One of `FORMATS`.
        fields: For `jsonl`: which field holds what. The other formats fix their own.
        unusable: For `jsonl`: where given, a row that is wrong is left out, and the reason is added
            here.
        options: `context`: `gold` (the default; only the paragraphs or statements that the
            question needs) or `all`, for the sets with paragraphs or statements; `none` (the
            default) or `question`, for `gsm8k` and `mmlu`. `unanswerable`: `drop` (the
            default) or `keep`, for `musique`. `aliases`: the name of a file of aliases beside it,
            for `2wikimultihopqa`. `context`, `filter` and `fewshot` for `lm-eval`: see
            `statebridge.data.readers.lm_eval_task`.

    Raises:
        DatasetError: Unknown format or option; the file cannot be read; a row is wrong, is
            there twice, or there is none.
    """
    if format not in FORMATS:
        raise DatasetError(f"unknown dataset format {format!r}; {nearest(format, FORMATS)}")
    known = _FORMATS[format].options if format in _FORMATS else ()
    unknown = next((name for name in options if name not in known), None)
    if unknown is not None:
        hint = nearest(unknown, known) if known else "it takes none"
        raise DatasetError(f"format {format}: unknown option {unknown!r}; {hint}")
    paths = [Path(path)] if isinstance(path, str | Path) else list(path)
    if format not in _FORMATS:
        return list(iter_jsonl(paths, fields, unusable))
    if fields not in (None, FieldMap()):
        raise DatasetError(
            f"format {format}: its field names are fixed; leave fields out, or use format jsonl"
        )
    reader = _FORMATS[format].reader
    placed = (row for file in paths for row in reader(file, **options))
    return list(distinct_rows(placed, paths[0]))
