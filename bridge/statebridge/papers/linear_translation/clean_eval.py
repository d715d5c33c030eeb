"""The clean evaluation set of arXiv 2606.03280, rebuilt from its two source files.

From 514 rows of `test_enhanced.jsonl` and 560 of `train.jsonl` it keeps 396; the file's
SHA-256 is `CLEAN_EVAL_SHA256`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from statebridge.data.files import atomic_writer
from statebridge.data.jsonl import canonical_line, iter_objects
from statebridge.data.rows import answer_type, checked_text, row_identity_sha256, text_field
from statebridge.errors import DatasetError

CLEAN_EVAL_SHA256 = "504e077cf17433e22967c86e98d321532d4e803dbe24d96af14c7e8ecdd0dcbb"
CLEAN_EVAL_VERSION = "h1-clean-eval-v1"

# Frozen as it was written, on the machine that it was written on.
_SOURCE_EVAL_FILE = r"data\tasks\multi_hop_reasoning\test_enhanced.jsonl"
_COMPONENT_OF_BATCH = {"v1": "test.jsonl", "v2": "test_v2.jsonl"}
_DOMAIN_WORDS = (
    ("technology_heuristic", ("framework", "programming", "backend", "platform", "storefront")),
    ("history_heuristic", ("during", "century", "revolution", "ancient", "war")),
    (
        "science_heuristic",
        ("metal", "element", "combustion", "conductive", "semiconductor", "industry"),
    ),
)


@dataclass(frozen=True, slots=True)
class CleanEvalSummary:
    """Counts of a build."""

    path: Path
    kept: int
    dropped_overlap: int
    """Rows of `test_enhanced` that are also in `train`."""
    dropped_duplicates: int
    """Rows of `test_enhanced` that repeat an earlier one."""
    sha256: str


def build_clean_eval(
    train: str | Path, test_enhanced: str | Path, out: str | Path
) -> CleanEvalSummary:
    """Write the clean evaluation set; nothing is written unless it is accepted.

    A row of `test_enhanced` is dropped when its (context, question, answer) is in `train`,
    and otherwise when it repeats an earlier row; the rest keep their fields and gain the
    published ones.

    Raises:
        DatasetError: A source cannot be read, a row of it is wrong, or `out` is a source; no
            row is left; a duplicate or an overlap with `train` remains in what was written.
        EnvironmentFault: `out` cannot be written.
    """
    out = Path(out)
    for source in (train, test_enhanced):
        if out.resolve() == Path(source).resolve():
            raise DatasetError(f"{out}: is one of the two sources; write the set to another file")
    in_train = {identity for identity, _ in _identified(Path(train))}
    if not in_train:
        raise DatasetError(f"{train}: holds no row; give the training rows to keep out")
    seen: set[str] = set()
    lines: list[bytes] = []
    dropped_overlap = dropped_duplicates = 0
    for index, (identity, record) in enumerate(_identified(Path(test_enhanced))):
        if identity in in_train:
            dropped_overlap += 1
        elif identity in seen:
            dropped_duplicates += 1
        else:
            seen.add(identity)
            lines.append(canonical_line(_annotated(record, identity, index, len(lines))))
    if not lines:
        raise DatasetError(f"{test_enhanced}: no row is left once those of {train} are dropped")
    digest = hashlib.sha256(b"".join(lines)).hexdigest()
    with atomic_writer(out) as stream:
        stream.writelines(lines)
        stream.flush()
        _accept(Path(stream.name), in_train)
    return CleanEvalSummary(out, len(lines), dropped_overlap, dropped_duplicates, digest)


def infer_domain(context: str, question: str, batch: Any = None) -> str:
    """Return the published domain label: by batch, else by the first list with a word in it."""
    if batch == "v1":
        return "geography"
    text = f"{context} {question}".lower()
    for domain, words in _DOMAIN_WORDS:
        if any(word in text for word in words):
            return domain
    return "unspecified"


def _identified(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for place, record in iter_objects(path):
        context, question, answer = (
            checked_text(
                text_field(record, field, place), field, place, may_be_empty=field == "context"
            )
            for field in ("context", "question", "answer")
        )
        yield row_identity_sha256(context, question, answer), record


def _annotated(record: dict[str, Any], identity: str, index: int, kept: int) -> dict[str, Any]:
    batch = record.get("batch")
    context, question, answer = record["context"], record["question"], record["answer"]
    return {
        "answer_type": answer_type(answer),
        "domain_inferred": infer_domain(context, question, batch),
        **record,
        "clean_eval_id": f"mh_clean_{kept:06d}",
        "clean_eval_version": CLEAN_EVAL_VERSION,
        "dedup_key_sha256": identity,
        "source_component_file": _COMPONENT_OF_BATCH.get(str(batch), "test_enhanced.jsonl"),
        "source_eval_file": _SOURCE_EVAL_FILE,
        "source_eval_index": index,
    }


def _accept(written: Path, in_train: set[str]) -> None:
    """Check the file itself, not what it was made from, before it takes its name."""
    found: set[str] = set()
    for identity, record in _identified(written):
        if identity in found or identity in in_train:
            what = "stands in the training rows" if identity in in_train else "stands there twice"
            raise DatasetError(f"row {record['clean_eval_id']!r} {what}; the set is refused")
        found.add(identity)
