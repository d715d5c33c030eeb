"""Run directories made by hand, with all that pages show of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from statebridge.records import DatasetRow
from tests.bridge.report.hostile import HOSTILE
from tests.bridge.results.run_folder import manifest, write_run

CELLS = ("no_inject", "replace/seed1", "shuffled_translation/seed1")
ROWS = 12
# Neither file of a run holds half a surrogate pair.
STORABLE = [text for text in HOSTILE if "\ud83d" not in text]


def side(model: str, layer: int) -> dict[str, Any]:
    return {
        "model": model,
        "layer": layer,
        "layer_path": f"layers.{layer}",
        "blocks": 4,
        "width": 8,
        "weights_sha256": "ab" * 32,
    }


def made_run(
    path: Path, *, layer: int = 1, right: int = 6, done: int = ROWS, hostile: bool = False
) -> Path:
    """Write a run of twelve rows, one a group.

    Args:
        path: The directory.
        layer: The sender's.
        right: Rows that `replace` answers rightly; no other condition does.
        done: Committed rows.
        hostile: Whether name, contexts, questions and answers try to be markup.
    """
    texts = [STORABLE[i % len(STORABLE)] if hostile else f"text {i}" for i in range(ROWS)]
    dataset = [
        DatasetRow(f"row{i}", text, f"why? {i}", f"gold{i}", {"hops": 2})
        for i, text in enumerate(texts)
    ]
    groups = []
    for i, row in enumerate(dataset[:done]):
        lanes = []
        for cell in CELLS:
            good = cell.startswith("replace") and i < right
            logprob = (-1.0 if good else -3.0) - 0.05 * i
            text = f"{row.answer if good else 'nothing'} {texts[i]}" if hostile else None
            fields = {"gold_logprob": logprob, "gold_rank": 1, "kl_from_no_inject": 0.1}
            made = lane_of_row(row, text or (row.answer if good else "nothing"), **fields)
            lanes.append((cell, made))
        groups.append(lanes)
    experiment = {
        "name": f"run {HOSTILE[0]}" if hostile else f"layer {layer}",
        "direction": "fwd",
        "decoding": {"max_new_tokens": 4, "relay_max_new_tokens": 4},
        "decode": True,
        "sender": {"model": "example/sender", "layer": layer},
        "receiver": {"model": "example/receiver", "layer": 2},
        "dataset": {"generate": None, "path": "data/questions.jsonl", "sha256": None},
        "seeds": [1],
    }
    made = manifest(
        [len(CELLS)] * ROWS,
        CELLS,
        experiment=experiment,
        created_at="2026-11-30T10:00:00+00:00",
        dataset={"sha256": "cd" * 32, "rows": ROWS},
        pair={"sender": side("example/sender", layer), "receiver": side("example/receiver", 2)},
        versions={"statebridge": "0.1.0", "torch": "2.8"},
        device="cpu",
    )
    for cell in made["cells"]:
        cell["rows"] = ROWS
    return write_run(path, groups, dataset=dataset, made=made)


def lane_of_row(row: DatasetRow, text: str, **fields: Any) -> Any:
    from statebridge.records import LaneResult

    return LaneResult(
        row.row_id, row.answer, text, token_ids=tuple(text.encode("utf-8", "replace")), **fields
    )
