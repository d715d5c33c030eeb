"""2WikiMultihopQA files (arXiv 2011.01060): HotpotQA's records with `type` and `evidences`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from statebridge.data.readers.hotpotqa import hotpot_row, text_labels, titled_paragraphs
from statebridge.data.readers.paragraphs import checked_context
from statebridge.data.readers.records import iter_records
from statebridge.data.rows import Place, kind
from statebridge.errors import DatasetError
from statebridge.records import DatasetRow


def iter_2wikimultihopqa(
    path: Path, *, context: str = "gold"
) -> Iterator[tuple[Place, DatasetRow]]:
    """Yield the rows of a 2WikiMultihopQA file; attributes: type, hops, answer_type.

    `hops` is the number of evidence triples, or of gold paragraphs where there are none.

    Raises:
        DatasetError: The file cannot be read, or a record of it has another shape. The test
            file, which has no answers, is refused.
    """
    wanted = checked_context(context)
    for place, record in iter_records(path):
        evidences = record.get("evidences") or []
        if not isinstance(evidences, list):
            raise DatasetError(
                f"{place}: field 'evidences' is {kind(evidences)}; it must be a list of triples"
            )
        paragraphs = titled_paragraphs(record, place)
        hops = len(evidences) or sum(p.gold for p in paragraphs)
        labels = text_labels(record, ("type",))
        yield place, hotpot_row(place, record, paragraphs, wanted, {**labels, "hops": hops})
