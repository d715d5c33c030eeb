"""Results as a run gives them, made up: every field is there and follows a rule."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from statebridge.experiment.conditions import Condition
from statebridge.experiment.presets import CONDITIONS
from statebridge.records import CellResult, DatasetRow, Direction, LaneResult, ResultSet

SEEDS = (42, 123, 456)
TOKENS = 6
RECEIVER_NORM = 60.0
PUBLISHED = (
    "no_inject",
    "nl_relay",
    "additive",
    "replace",
    "scale_corrected",
    "b_to_b_self_inject",
    "shuffled_translation",
)


def made_run(
    conditions: Sequence[str | Condition] = PUBLISHED,
    *,
    rows: int = 24,
    seeds: Sequence[int] = SEEDS,
    direction: Direction = "fwd",
    decoded: bool = True,
    layers: tuple[int, int] = (8, 16),
    shift: float = 0.0,
) -> ResultSet:
    """A run of some conditions; `shift` is added to every condition's gold log-probability."""
    dataset = {
        f"row{i:03}": DatasetRow(
            f"row{i:03}", f"Context {i}.", f"Question {i}?", f"gold{i}", {"hops": 2 + i % 3}
        )
        for i in range(rows)
    }
    cells = []
    for name in conditions:
        condition = CONDITIONS[name] if isinstance(name, str) else name
        for seed in seeds if condition.seeded else (None,):
            cells.append(
                CellResult(
                    condition=condition,
                    seed=seed,
                    direction=direction,
                    lanes=[_row(condition, seed, row, decoded, shift) for row in dataset.values()],
                    source=Path("run"),
                    dataset_sha256="0" * 64,
                    decoding={"max_new_tokens": 64},
                    models={
                        "sender": {"layer": layers[0]},
                        "receiver": {"layer": layers[1]},
                    },
                )
            )
    return ResultSet(cells, dataset, _manifest(cells, rows, layers, seeds, direction, decoded))


def _row(
    condition: Condition, seed: int | None, example: DatasetRow, decoded: bool, shift: float
) -> LaneResult:
    chance = _chance(condition.name, seed, example.row_id)
    changes = condition.source not in ("none", "receiver") or condition.prompt == "relay"
    first = int(chance * 2 * TOKENS) if changes else TOKENS
    first_changed = first if first < TOKENS else None
    tokens = tuple(1000 + k if k < first else 2000 + k for k in range(TOKENS))
    right = _chance("baseline", None, example.row_id) < 0.5
    if changes and chance > 0.5:
        right = condition.source != "none" and chance > 0.75
    injected = condition.source != "none"
    source_norm = 0.9 if condition.reads_sender else None
    written = RECEIVER_NORM if condition.match_norm or condition.source == "receiver" else 0.9
    if condition.operator == "add":
        written = 0.9 * condition.weight
    answer = f"it is {example.answer}" if right else "it is lead"
    text = f"{answer} {'and so' if first_changed is None else f'but not {chance:.3f}'}"
    return LaneResult(
        row_id=example.row_id,
        gold=example.answer,
        prediction=text if decoded else None,
        token_ids=tokens if decoded else None,
        prompt_len_sender=30 + int(example.row_id[-1]) if condition.reads_sender else None,
        prompt_len_receiver=30 + int(example.row_id[-1]),
        translated_norm_mean=source_norm,
        receiver_norm_mean=RECEIVER_NORM if injected else None,
        source_cosine_mean=0.2 + 0.5 * chance if injected else None,
        injected_norm_mean=written * (0.9 + 0.2 * chance) if injected else None,
        relay="a relayed text" if condition.prompt == "relay" else None,
        gold_logprob=-5.0 - _chance("gold", None, example.row_id) - (chance + shift) * changes,
        gold_token_count=2,
        gold_rank=1 + int(100 * chance),
        kl_from_no_inject=chance * changes,
        prediction_changed=first_changed is not None if decoded else None,
        first_changed_token=first_changed if decoded else None,
    )


def _chance(*parts: object) -> float:
    """A number in [0, 1) that depends on nothing but `parts`."""
    return int(hashlib.sha256(repr(parts).encode()).hexdigest()[:8], 16) / 16**8


def _manifest(
    cells: Sequence[CellResult],
    rows: int,
    layers: tuple[int, int],
    seeds: Sequence[int],
    direction: Direction,
    decoded: bool,
) -> dict[str, Any]:
    space = {"r2": 0.5, "cosine": 0.9, "baseline_cosine": 0.7}
    side = {"model": "tiny", "revision": None, "blocks": 24, "width": 8, "weights_sha256": "1" * 64}
    return {
        "format": "statebridge.run.v1",
        "created_at": "2026-01-02T03:04:05+00:00",
        "experiment": {
            "name": "made",
            "direction": direction,
            "seeds": list(seeds),
            "decoding": {"max_new_tokens": 64},
            "decode": decoded,
            "prompts": {"task": "Context: {context}\nQ: {question}\nA:"},
        },
        "dataset": {"sha256": "0" * 64, "rows": rows},
        "pair": {
            name: {**side, "layer": layer, "layer_path": f"layers.{layer}"}
            for name, layer in zip(("sender", "receiver"), layers, strict=True)
        },
        "translators": {
            str(seed): {
                "file": f"seed{seed}.safetensors",
                "sha256": f"{seed:064}",
                "kind": "affine",
                "quality": [{"positions": 1000, "normalised": space}],
            }
            for seed in seeds
        },
        "versions": {"statebridge": "0.1.0"},
        "device": "cpu",
        "path": "shared",
        "git_revision": None,
        "cells": [
            {
                "name": cell.name,
                "seed": cell.seed,
                "rows": len(cell.lanes),
                "excluded_rows": 0,
                "condition": cell.condition.model_dump(mode="json"),  # type: ignore[union-attr]
            }
            for cell in cells
        ],
        "plan": {},
    }


def without(results: ResultSet, *names: str) -> ResultSet:
    """The same rows without some of their fields."""
    blank = dict.fromkeys(names)
    cells = [
        replace(cell, lanes=[replace(row, **blank) for row in cell.lanes])  # type: ignore[arg-type]
        for cell in results.cells
    ]
    return replace(results, cells=cells)


def strengths(*weights: float, **fields: Any) -> list[Condition]:
    """Conditions that differ in their weight only."""
    base = {"source": "translated", "match_norm": True, **fields}
    return [Condition(name=f"alpha_{weight:g}", weight=weight, **base) for weight in weights]
