"""HotpotQA files (arXiv 1809.09600), and those of 2WikiMultihopQA (arXiv 2011.01060).

The distributed files are one JSON array: `_id`, `question`, `answer`, `type`, `level`,
`supporting_facts` as [title, sentence] pairs, `context` as [title, sentences] pairs. The
column-wise form that dataset hubs export (`id`; `context: {title, sentences}`;
`supporting_facts: {title, sent_id}`), as an array, as JSON Lines or as Parquet, is read too, and so
are copies whose columns hold these lists as JSON text.
2WikiMultihopQA has the same records, with `evidences` besides.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from statebridge.data.answers import ALIASES, SCORING, join_names, listed_names
from statebridge.data.jsonl import iter_records
from statebridge.data.readers.contexts import Context, Paragraph, checked_context, joined
from statebridge.data.rows import (
    Attributes,
    Place,
    answer_type,
    id_field,
    kind,
    make_row,
    text_field,
)
from statebridge.data.strict_json import JsonError, parse
from statebridge.errors import DatasetError
from statebridge.records import DatasetRow


def iter_hotpotqa(path: Path, *, context: str = "gold") -> Iterator[tuple[Place, DatasetRow]]:
    """Yield the rows of a HotpotQA file; attributes: type, level, hops, answer_type, scoring.

    `hops` is the number of gold paragraphs.

    Raises:
        DatasetError: The file cannot be read, or a record of it is not as above. The test
            files without answers are refused.
    """
    wanted = checked_context(context)
    for place, record in iter_records(path):
        paragraphs = _titled(record, place)
        hops = sum(p.gold for p in paragraphs)
        labels = _labels(record, ("type", "level"))
        yield place, _row(place, record, paragraphs, wanted, {**labels, "hops": hops})


def iter_2wikimultihopqa(
    path: Path, *, context: str = "gold", aliases: str = ""
) -> Iterator[tuple[Place, DatasetRow]]:
    """Yield the rows of a 2WikiMultihopQA file.

    Attributes: aliases (where there are any), type, hops, answer_type, scoring. `hops` is the
    number of evidence triples, or of gold paragraphs where there are none.

    Args:
        aliases: Name of the set's file of aliases beside `path`, `id_aliases.json`; its aliases
            and demonyms of an answer count, as in the set's script. None are known without it.

    Raises:
        DatasetError: The file cannot be read, or a record of it has another shape. The test
            file, which has no answers, is refused.
    """
    wanted = checked_context(context)
    named = _aliases_by_id(path, aliases) if aliases else {}
    for place, record in iter_records(path):
        evidences = _parsed(record.get("evidences")) or []
        if not isinstance(evidences, list):
            raise DatasetError(
                f"{place}: field 'evidences' is {kind(evidences)}; it must be a list of triples"
            )
        paragraphs = _titled(record, place)
        hops = len(evidences) or sum(p.gold for p in paragraphs)
        labels = _labels(record, ("type",))
        others = named.get(record.get("answer_id"), "")
        labels |= {ALIASES: others} if others else {}
        yield place, _row(place, record, paragraphs, wanted, {**labels, "hops": hops})


def _aliases_by_id(path: Path, name: str) -> dict[Any, str]:
    """Return the names that a file of aliases beside `path` gives each answer, as one text."""
    if Path(name).name != name:
        raise DatasetError(
            f"option aliases: {name!r}: give the name of a file beside {path.name}, such as "
            "id_aliases.json"
        )
    found = {}
    for place, record in iter_records(path.parent / name):
        key = id_field(record, "Q_id", place)
        names = [record.get(field, []) for field in ("aliases", "demonyms")]
        for field, held in zip(("aliases", "demonyms"), names, strict=True):
            listed_names(held, field, place, key)
        found[key] = join_names(dict.fromkeys(text.strip() for held in names for text in held))
    return found


def _row(
    place: Place,
    record: dict[str, Any],
    paragraphs: list[Paragraph],
    context: Context,
    attributes: Attributes,
) -> DatasetRow:
    """Return one record as a row."""
    row_id = id_field(record, "_id" if "_id" in record else "id", place)
    answer = text_field(record, "answer", place, row_id=row_id)
    return make_row(
        place,
        row_id=row_id,
        context=joined(paragraphs, context, place, row_id),
        question=text_field(record, "question", place, row_id=row_id),
        answer=answer,
        attributes={
            **attributes,
            "answer_type": answer_type(answer),
            SCORING: "squad_exact_match",
        },
    )


def _labels(record: dict[str, Any], names: tuple[str, ...]) -> dict[str, str]:
    """Return the fields of these names that are there and are text."""
    return {name: record[name] for name in names if isinstance(record.get(name), str)}


def _titled(record: dict[str, Any], place: Place) -> list[Paragraph]:
    """Return the paragraphs of a record in file order, gold ones marked.

    Raises:
        DatasetError: `context` or `supporting_facts` has neither of the two known shapes.
    """
    gold = {
        title
        for title, _ in _pairs(
            record, "supporting_facts", "sent_id", place, "[title, sentence number] pairs"
        )
    }
    found = []
    for title, sentences in _pairs(
        record, "context", "sentences", place, "[title, sentences] pairs"
    ):
        if not isinstance(sentences, list) or not all(isinstance(s, str) for s in sentences):
            raise DatasetError(
                f"{place}: field 'context': the sentences of {title!r} are not a list of texts"
            )
        # HotpotQA's sentences bring their leading space along, 2WikiMultihopQA's do not.
        text = " ".join(s.strip() for s in sentences if s.strip())
        found.append(Paragraph(title, text, title in gold))
    return found


def _parsed(value: Any) -> Any:
    """Return a list that a column holds as JSON text as the list; all else as it is."""
    if isinstance(value, str) and value.startswith("["):
        with suppress(JsonError):
            return parse(value)
    return value


def _pairs(
    record: dict[str, Any], field: str, second: str, place: Place, wanted: str
) -> list[tuple[str, Any]]:
    value = _parsed(record.get(field))
    if field == "supporting_facts" and value is None:
        return []  # context: all needs none; context: gold refuses the row
    if isinstance(value, dict):
        titles, others = value.get("title"), value.get(second)
        if isinstance(titles, list) and isinstance(others, list) and len(titles) == len(others):
            value = list(zip(titles, others, strict=True))
    if not isinstance(value, list) or not all(
        isinstance(pair, list | tuple) and len(pair) == 2 and isinstance(pair[0], str)
        for pair in value
    ):
        state = "is missing" if field not in record else "has another shape"
        raise DatasetError(f"{place}: field {field!r} {state}; it must be a list of {wanted}")
    return [(pair[0], pair[1]) for pair in value]
