"""A run directory made by hand, without models."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from statebridge.data import write_jsonl
from statebridge.experiment.presets import CONDITIONS
from statebridge.records import DatasetRow, LaneResult
from statebridge.runs.directory import DATASET, FORMAT, MANIFEST, ROWS, lane_line

ROWS_OF_DATASET = [
    DatasetRow("b", "Bob in Lima.", "Where is Bob?", "Lima", {"hops": 2, "domain": "geography"}),
    DatasetRow("a", "Zoë in 東京.", "Where is Zoë?", "東京", {"hops": 3, "domain": None}),
    DatasetRow("c", "", "Who?", "Nobody", {"hops": 4, "domain": "x"}),
]
CELLS = ("no_inject", "replace/seed42", "replace/seed7")


def manifest(lanes: Sequence[int], cells: Sequence[str] = CELLS, **changes: Any) -> dict[str, Any]:
    """Return the manifest of three rows under some cells, in groups of `lanes` lanes."""
    declared = []
    for name in cells:
        condition, _, seed = name.partition("/seed")
        declared.append(
            {
                "name": name,
                "seed": int(seed) if seed else None,
                "rows": 3,
                "excluded_rows": 0,
                "condition": CONDITIONS[condition].model_dump(mode="json"),
            }
        )
    return {
        "format": FORMAT,
        "experiment": {"direction": "fwd", "decoding": {"max_new_tokens": 4}},
        "dataset": {"sha256": "0" * 64, "rows": 3},
        "pair": {"sender": {"model": "s"}, "receiver": {"model": "r"}},
        "cells": declared,
        "plan": {"lanes": list(lanes), "max_lanes": 9},
        **changes,
    }


def lane(row_id: str, tokens: Sequence[int] | None, **fields: Any) -> LaneResult:
    """Return one committed row."""
    return LaneResult(
        row_id=row_id,
        gold=next(row.answer for row in ROWS_OF_DATASET if row.row_id == row_id),
        prediction=None if tokens is None else " ".join(map(str, tokens)),
        token_ids=None if tokens is None else tuple(tokens),
        **fields,
    )


def write_run(
    path: Path,
    groups: Sequence[Sequence[tuple[str, LaneResult]]],
    *,
    planned: Sequence[int] | None = None,
    dataset: Sequence[DatasetRow] = ROWS_OF_DATASET,
    made: Mapping[str, Any] | None = None,
) -> Path:
    """Write a run directory of some groups; `planned` lanes where not all have run."""
    path.mkdir(parents=True, exist_ok=True)
    lanes = planned or [len(group) for group in groups]
    (path / MANIFEST).write_text(json.dumps(made or manifest(lanes)), encoding="utf-8")
    write_jsonl(dataset, path / DATASET)
    (path / ROWS).write_bytes(
        b"".join(
            lane_line(index, cell, row) for index, group in enumerate(groups) for cell, row in group
        )
    )
    return path
