"""The data of the HTML report's row browser, as compact JSON.

Cells are columns over the rows, and every text is there once: many conditions give the same one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from statebridge.figures.wording import metric_label
from statebridge.records import CellResult, DatasetRow, LaneResult, ResultSet
from statebridge.report.words.sentences import ROLE_WORDS
from statebridge.results.by_condition import ConditionCells, condition_cells
from statebridge.scoring import METRICS, primary_metric

MOST_VALUES = 24
"""An attribute with more distinct values than this is shown with its row, but is no filter."""

_METRICS = (
    "word_boundary_contains",
    "legacy_contains",
    "first_answer_span",
    "normalized_exact_match",
)
_JUDGING = ("task_correct", *_METRICS)
"""Metrics that a row is right or wrong by; the primary one of the results comes first."""
_NUMBERS = ("gold_logprob", "gold_rank", "kl_from_no_inject", "first_changed_token")
_NO_ROW, _NO_TEXT = -2, -1


class _Texts:
    """Texts by number, each kept once."""

    def __init__(self) -> None:
        self.listed: list[str] = []
        self._numbers: dict[str, int] = {}

    def number(self, text: str | None) -> int:
        if text is None:
            return _NO_TEXT
        found = self._numbers.setdefault(text, len(self.listed))
        if found == len(self.listed):
            self.listed.append(text)
        return found


def browser_data(results: ResultSet) -> dict[str, Any]:
    """Return rows, cells and texts; context and question are null without their dataset."""
    groups = condition_cells(results)
    row_ids = _row_ids(results, groups)
    places = {row_id: place for place, row_id in enumerate(row_ids)}
    golds = {row.row_id: row.gold for group in groups for cell in group.cells for row in cell.lanes}
    attributes = _attributes(results.dataset[i] for i in row_ids if i in results.dataset)
    texts = _Texts()
    metrics = tuple(name for name in (primary_metric(results), *_METRICS) if name in _JUDGING)
    metrics = tuple(dict.fromkeys(metrics))
    cells = [
        _cell_data(group, cell, row_ids, places, texts, metrics)
        for group in groups
        for cell in group.cells
    ]
    flat = [cell for group in groups for cell in group.cells]
    shown = ResultSet(flat)
    for data, cell in zip(cells, flat, strict=True):
        floor = shown.floor(cell)
        data["baseline"] = None if floor is None else flat.index(floor)
    return {
        "metrics": [[name, metric_label(name)] for name in metrics],
        "attributes": attributes,
        "filters": [_filter_values(results, row_ids, name) for name in attributes],
        "rows": [_row_data(i, results.dataset.get(i), golds[i], attributes) for i in row_ids],
        "cells": cells,
        "texts": texts.listed,
    }


def embedded_json(data: Any) -> str:
    """Return JSON that can be put inside a `<script>` element: it holds no `<`, `>` or `&`."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def _row_ids(results: ResultSet, groups: Iterable[ConditionCells]) -> list[str]:
    """Every row that some cell holds, in the order of the dataset or of the cells."""
    held = dict.fromkeys(
        row.row_id for group in groups for cell in group.cells for row in cell.lanes
    )
    ordered = [row_id for row_id in results.dataset if row_id in held]
    return ordered + [row_id for row_id in held if row_id not in results.dataset]


def _attributes(rows: Iterable[DatasetRow]) -> list[str]:
    """The attributes worth showing: neither the same for every row nor a mere identifier."""
    values: dict[str, set[str]] = {}
    count = 0
    for row in rows:
        count += 1
        for name, value in row.attributes.items():
            values.setdefault(name, set()).add(str(value))
    return [
        name
        for name, distinct in values.items()
        if len(distinct) > 1 and (len(distinct) <= MOST_VALUES or len(distinct) < count)
    ]


def _filter_values(results: ResultSet, row_ids: Iterable[str], name: str) -> list[str]:
    """The values that rows can be filtered by; none where there are too many of them."""
    found = {
        _shown(results.dataset[i].attributes.get(name)) for i in row_ids if i in results.dataset
    }
    found.discard("")
    return sorted(found, key=_number_first) if len(found) <= MOST_VALUES else []


def _number_first(value: str) -> tuple[bool, float, str]:
    return (not value.isdecimal(), float(value) if value.isdecimal() else 0.0, value)


def _shown(value: str | int | float | bool | None) -> str:
    return "" if value is None else str(value)


def _row_data(
    row_id: str, example: DatasetRow | None, gold: str, attributes: list[str]
) -> dict[str, Any]:
    return {
        "id": row_id,
        "context": None if example is None else example.context,
        "question": None if example is None else example.question,
        "answer": gold,
        "attributes": ["" for _ in attributes]
        if example is None
        else [_shown(example.attributes.get(name)) for name in attributes],
    }


def _cell_data(
    group: ConditionCells,
    cell: CellResult,
    row_ids: list[str],
    places: Mapping[str, int],
    texts: _Texts,
    metrics: tuple[str, ...],
) -> dict[str, Any]:
    by_id = {row.row_id: row for row in cell.lanes}
    rows = [by_id.get(row_id) for row_id in row_ids]
    data: dict[str, Any] = {
        "label": group.label if cell.seed is None else f"{group.label}, seed {cell.seed}",
        "group": group.label,
        "condition": cell.condition.name,
        "seed": cell.seed,
        "direction": cell.direction,
        "role": ROLE_WORDS[group.role],
        "text": [_NO_ROW if row is None else texts.number(row.prediction) for row in rows],
        "hits": [_hits(row, metrics) for row in rows],
    }
    if any(row is not None and row.relay is not None for row in rows):
        data["relay"] = [_NO_TEXT if row is None else texts.number(row.relay) for row in rows]
    if any(row is not None and row.donor_row_id is not None for row in rows):
        data["donor"] = [
            None if row is None or row.donor_row_id is None else places.get(row.donor_row_id)
            for row in rows
        ]
    if any(row is not None and row.gold_tokens is not None for row in rows):
        data["gold_tokens"] = [
            None
            if row is None or row.gold_tokens is None
            else [[text, _rounded(value)] for text, value in row.gold_tokens]
            for row in rows
        ]
    for name in _NUMBERS:
        column = [None if row is None else _rounded(getattr(row, name)) for row in rows]
        if any(value is not None for value in column):
            data[name] = column
    return data


def _hits(row: LaneResult | None, metrics: tuple[str, ...]) -> int:
    """One bit for each of the metrics; 0 without a text, which `text` tells apart."""
    if row is None or row.prediction is None:
        return 0
    prediction, gold = row.prediction, row.gold
    return sum(
        bool(row.task_correct if name == "task_correct" else METRICS[name](prediction, gold)) << bit
        for bit, name in enumerate(metrics)
    )


def _rounded(value: float | None) -> float | None:
    if value is None or isinstance(value, int):
        return value
    return float(f"{value:.4g}")
