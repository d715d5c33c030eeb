"""Whether what a published file stores about its rows still follows from them.

A published file holds, beside each text, whether it was scored as right, and at its end the
means over its rows. A row that was edited, dropped or added later contradicts them.
"""

from __future__ import annotations

import hashlib
import json
import math
import statistics
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from statebridge.data.strict_json import JsonError, parse
from statebridge.errors import ResultError
from statebridge.papers.linear_translation.result_reader import SCHEMA_VERSIONS
from statebridge.records import CellResult, LaneResult, ResultSet
from statebridge.scoring.metrics import METRICS
from statebridge.validation.expectation import Expectation
from statebridge.validation.report import Finding, finding
from statebridge.validation.validate import CHECKS

# Another reader's sum over 396 numbers may differ from ours in the last digits only.
RELATIVE_TOLERANCE = 1e-9

_SCORES = {
    "legacy_contains": "legacy_contains",
    "legacy_exact_match": "exact_match",
    "eval_result.correct": "legacy_contains",
    "eval_result.exact_match": "exact_match",
}
"""Stored with each row, and the metric that it must agree with."""
_MEANS = {"contains_acc": "legacy_contains", "exact_match_acc": "exact_match"}
_DIAGNOSTIC_MEANS = {
    "mean_prompt_len_a": "prompt_len_a",
    "mean_prompt_len_b": "prompt_len_b",
    "mean_translated_norm": "translated_norm_mean",
    "mean_b_hidden_norm": "b_hidden_norm_mean",
    "mean_injected_norm": "injected_norm_mean",
}
_DIAGNOSTIC_COUNTS = {
    "seq_len_mismatch_count": ("seq_len_match", False),
    "token_mismatch_count": ("token_ids_match", False),
    "shuffle_self_fallback_count": ("shuffle_self_fallback", True),
}


@CHECKS.add("published")
def stored_facts(results: ResultSet, expectation: Expectation) -> Iterator[Finding]:
    """Find published files whose rows contradict what is stored beside and after them.

    Raises:
        ResultError: A file that was read before can no longer be read.
    """
    for cell in results.cells:
        # Not of a run directory, a table made in memory or a file of another format.
        if not cell.source.is_file() or cell.source.suffix != ".json":
            continue
        payload = _read(cell.source)
        if payload.get("schema_version") not in SCHEMA_VERSIONS:
            continue
        yield from _scores(cell, payload)
        yield from _metrics(cell, payload)
        yield from _diagnostics(cell, payload)
        yield from _row_count(cell, payload)
        yield from _original(cell, payload, expectation)


def rows_digest(rows: Iterable[LaneResult]) -> str:
    """Return the SHA-256 of the rows' id, gold and prediction, whatever their order.

    One JSON array a row, ASCII only, LF after each, rows sorted by id.
    """
    digest = hashlib.sha256()
    for row in sorted(rows, key=lambda row: row.row_id):
        line = json.dumps([row.row_id, row.gold, row.prediction])
        digest.update(f"{line}\n".encode("ascii"))
    return digest.hexdigest()


def _read(path: Path) -> Mapping[str, Any]:
    try:
        payload = parse(path.read_bytes().decode("utf-8"))
    except OSError as error:
        raise ResultError(f"{path}: cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, JsonError):
        raise ResultError(f"{path}: is no longer JSON; it changed since it was read") from None
    return _object(payload)


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _rows(payload: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The stored rows that have a text and a gold answer."""
    stored = payload.get("per_sample")
    rows = [_object(row) for row in stored] if isinstance(stored, list) else []
    return [
        row
        for row in rows
        if isinstance(row.get("prediction"), str) and isinstance(row.get("gold"), str)
    ]


def _scores(cell: CellResult, payload: Mapping[str, Any]) -> Iterator[Finding]:
    rows = _rows(payload)
    for name, metric in _SCORES.items():
        wrong = [
            str(row.get("sample_id"))
            for row in rows
            if (stored := _stored(row, name)) is not None
            and stored != METRICS[metric](row["prediction"], row["gold"])
        ]
        if wrong:
            yield finding(
                "blocking",
                "edited",
                cell,
                f"{name} contradicts prediction and gold in {len(wrong)} row(s)",
                wrong,
            )
    unscored = [
        str(row.get("sample_id")) for row in rows if _stored(row, "legacy_contains") is None
    ]
    if unscored:
        yield finding(
            "warning",
            "unverifiable",
            cell,
            f"{len(unscored)} row(s) without legacy_contains, so an edit would go unnoticed",
            unscored,
        )


def _stored(row: Mapping[str, Any], name: str) -> Any:
    block, _, field = name.rpartition(".")
    return (_object(row.get(block)) if block else row).get(field)


def _metrics(cell: CellResult, payload: Mapping[str, Any]) -> Iterator[Finding]:
    metrics, rows = _object(payload.get("metrics")), _rows(payload)
    if not metrics:
        yield finding(
            "warning", "unverifiable", cell, "stores no metrics for its rows to be checked by"
        )
        return
    yield from _contradiction(cell, "metrics.n", metrics.get("n"), len(cell.lanes))
    if not rows or len(rows) < len(cell.lanes):  # null predictions have no score
        return
    for name, metric in _MEANS.items():
        right = sum(METRICS[metric](row["prediction"], row["gold"]) for row in rows)
        yield from _contradiction(cell, f"metrics.{name}", metrics.get(name), right / len(rows))


def _diagnostics(cell: CellResult, payload: Mapping[str, Any]) -> Iterator[Finding]:
    diagnostics, rows = _object(payload.get("diagnostics")), payload.get("per_sample")
    if not isinstance(rows, list):
        return
    for name, field in _DIAGNOSTIC_MEANS.items():
        held = (_number(_object(row).get(field)) for row in rows)
        values = [value for value in held if value is not None]
        if name in diagnostics:
            mean = statistics.mean(values) if values else None
            yield from _contradiction(cell, f"diagnostics.{name}", diagnostics[name], mean)
    for name, (field, counted) in _DIAGNOSTIC_COUNTS.items():
        if diagnostics.get(name) is not None:
            count = sum(_object(row).get(field) is counted for row in rows)
            yield from _contradiction(cell, f"diagnostics.{name}", diagnostics[name], count)


def _row_count(cell: CellResult, payload: Mapping[str, Any]) -> Iterator[Finding]:
    declared = _object(payload.get("config")).get("n_samples")
    if declared is not None:
        yield from _contradiction(cell, "config.n_samples", declared, len(cell.lanes))


def _contradiction(
    cell: CellResult, name: str, stored: Any, computed: float | None
) -> Iterator[Finding]:
    number = _number(stored)
    if number is None or computed is None:
        same = stored is None and computed is None
    else:
        same = math.isclose(number, computed, rel_tol=RELATIVE_TOLERANCE)
    if not same:
        yield finding(
            "blocking", "edited", cell, f"{name} is {stored!r}, but its rows give {computed}"
        )


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:  # an integer beyond every float
        return math.inf


def _original(
    cell: CellResult, payload: Mapping[str, Any], expectation: Expectation
) -> Iterator[Finding]:
    if cell.direction != expectation.direction:
        return
    for original in expectation.originals:
        if (original.condition, original.seed) != (cell.condition.name, cell.seed):
            continue
        if payload.get("created_at") != original.created_at:
            continue  # a run of one's own, not the published one
        if rows_digest(cell.lanes) != original.rows_sha256:
            yield finding(
                "blocking",
                "edited",
                cell,
                f"says that it is the published file of {original.created_at}, "
                "but its rows are not those published",
            )
