"""Strata: which rows belong together by hops, domain, answer type or prompt length."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from itertools import pairwise

import numpy as np

from statebridge.records import CellResult, DatasetRow

PROMPT_LENGTH = "prompt_length"
ATTRIBUTES = ("hops", "domain", "answer_type", PROMPT_LENGTH)
"""What a comparison is stratified by unless told otherwise."""

_BINS = 4
_DERIVED = {"domain": "domain_inferred"}
"""Attribute to the field of the published data that stands in where it is absent."""


def stratum_labels(
    attribute: str, dataset: Mapping[str, DatasetRow], cells: Iterable[CellResult]
) -> dict[str, str]:
    """Return row id to stratum label; rows without a value of the attribute are absent.

    `prompt_length` is read from the cells (one direction's) and binned at its quartiles; any
    other attribute is looked up in the dataset rows, and is empty without them.
    """
    if attribute == PROMPT_LENGTH:
        return _binned(_prompt_lengths(cells))
    labels = {}
    for row_id, row in dataset.items():
        value = row.attributes.get(attribute)
        if value is None and attribute in _DERIVED:
            value = row.attributes.get(_DERIVED[attribute])
        if value is not None:
            labels[row_id] = str(value)
    return labels


def ordered_labels(labels: Iterable[str]) -> list[str]:
    """Return the distinct labels in reading order: numbers by size, text by alphabet."""

    def key(label: str) -> tuple[float, str]:
        digits = label.lstrip("≤>").split("–")[0]
        number = float(digits) if digits.isdecimal() else math.inf
        return (number + 0.5 if label.startswith(">") else number, label)

    return sorted(set(labels), key=key)


def _prompt_lengths(cells: Iterable[CellResult]) -> dict[str, int]:
    """The length in tokens of each row's task prompt (a relay prompt is another text)."""
    lengths: dict[str, int] = {}
    # These first: their prompt is the task prompt whatever else was run.
    whole = ("no_inject", "skyline")
    for cell in sorted(cells, key=lambda cell: (cell.condition.name not in whole, cell.name)):
        for row in cell.lanes:
            if row.prompt_len_receiver is not None and row.relay is None:
                lengths.setdefault(row.row_id, row.prompt_len_receiver)
    return lengths


def _binned(lengths: Mapping[str, int]) -> dict[str, str]:
    if not lengths:
        return {}
    inner = np.arange(1, _BINS) / _BINS
    values = sorted(lengths.values())
    # Whole tokens, and each edge belongs to the bin below it.
    edges = sorted({int(edge) for edge in np.quantile(values, inner, method="lower")})
    names = [f"≤{edges[0]}"]
    names += [f"{low + 1}–{high}" for low, high in pairwise(edges)]
    names.append(f">{edges[-1]}")
    return {
        row_id: names[int(np.searchsorted(edges, length, side="left"))]
        for row_id, length in lengths.items()
    }
