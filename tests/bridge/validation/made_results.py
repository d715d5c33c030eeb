"""Small result sets and published files, made for the tests of validation."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from statebridge.experiment.presets import named_condition
from statebridge.papers.linear_translation.clean_eval import CLEAN_EVAL_SHA256
from statebridge.papers.linear_translation.result_reader import published_file_name, read_published
from statebridge.papers.linear_translation.result_writer import write_published
from statebridge.records import CellResult, LaneResult, ResultSet
from statebridge.validation import Expectation, ValidationReport, validate

SHA = "a" * 64
DECODING = {
    "max_new_tokens": 64,
    "do_sample": False,
    "repetition_penalty": 1.3,
    "no_repeat_ngram_size": 3,
    "max_prompt_tokens": 256,
}
MODELS = {"model_a": "small", "model_b": "large", "layer_a": "blocks.8", "layer_b": "blocks.16"}
INJECTIONS: Mapping[str, Mapping[str, Any]] = {
    "no_inject": {"mode": "none"},
    "nl_relay": {"mode": "natural_language"},
    "b_to_b_self_inject": {"mode": "replace", "source": "receiver_self"},
    "zero_replacement": {"mode": "replace", "source": "zero_vector"},
    "same_norm_random": {"mode": "replace_scale_corrected", "source": "random_direction"},
    "additive": {"mode": "additive", "scale": 0.01, "alpha": None},
    "replace": {"mode": "replace", "scale": None, "alpha": None},
    "scale_corrected": {"mode": "replace_scale_corrected", "scale": None, "alpha": 1.0},
    "best_alpha": {"mode": "replace_scale_corrected", "scale": None, "alpha": 0.3},
}
SHUFFLES = ("shuffled_translation", "shuffled_translation_strict_matched")
LONE = 13


def row_id(index: int) -> str:
    return f"mh_clean_{index:06d}"


def gold(index: int) -> str:
    return f"answer{index}"


def made_row(condition: str, seed: int | None, index: int, **changes: Any) -> LaneResult:
    text = "plain" if condition in ("no_inject", "b_to_b_self_inject") else f"{condition} {seed}"
    if condition == SHUFFLES[1]:  # the same donors as in the full shuffle, so the same texts
        text = f"{SHUFFLES[0]} {seed}"
    right = gold(index) if index % 7 == 0 else "nothing"
    row = LaneResult(
        row_id=row_id(index),
        gold=gold(index),
        prediction=f"{text} says {right} in row {index}",
        prompt_len_receiver=40 + index % 5,
    )
    if condition == "nl_relay":
        row = replace(row, relay=f"facts {index}", relay_prompt_len=30, prompt_len_receiver=100)
    elif condition != "no_inject":
        row = replace(
            row,
            prompt_len_sender=row.prompt_len_receiver,
            token_ids_match=True,
            seq_len_match=True,
            translated_norm_mean=0.85 + index / 1000,
            receiver_norm_mean=68.0 + index / 10,
            injected_norm_mean=0.01 * (index + 1) + (seed or 0) / 1000,
        )
    return replace(row, **changes)


def made_cell(condition: str, seed: int | None = None, rows: int = 30, **fields: Any) -> CellResult:
    strict = condition == SHUFFLES[1]
    made = [made_row(condition, seed, index) for index in range(rows)]
    injection = dict(INJECTIONS.get(condition, {}))
    if condition in SHUFFLES:
        injection = {
            "mode": "replace_scale_corrected",
            "scale": None,
            "alpha": 1.0,
            "shuffle_injection_mode": "scale_corrected",
            "shuffle_excluded_singleton_count": LONE if strict else 0,
        }
        # The first 13 rows stand for those whose prompt length no other row shares.
        made = [
            replace(
                row,
                donor_row_id=row.row_id if index < LONE else donor_of(made, index),
                donor_self_fallback=index < LONE,
            )
            for index, row in enumerate(made)
        ]
        made = made[LONE:] if strict else made
    decoding: dict[str, Any] = dict(DECODING)
    if condition == "nl_relay":
        sender = {key: value for key, value in DECODING.items() if key != "max_prompt_tokens"}
        decoding["sender_generation"] = {**sender, "max_new_tokens": 128}
    defaults: dict[str, Any] = {
        "direction": "fwd",
        "lanes": made,
        "source": Path("memory"),
        "dataset_sha256": SHA,
        "decoding": decoding,
        "models": dict(MODELS),
        "published_injection": injection,
        "source_rows": rows if condition in SHUFFLES else None,
        "excluded_rows": LONE if strict else 0 if condition in SHUFFLES else None,
    }
    return CellResult(condition=named_condition(condition), seed=seed, **{**defaults, **fields})


def donor_of(rows: list[LaneResult], index: int) -> str:
    """The next row, from the fourteenth on, of the same prompt length (there are five)."""
    same = [i for i in range(LONE, len(rows)) if i % 5 == index % 5]
    return rows[same[(same.index(index) + 1) % len(same)]].row_id


def made_set() -> ResultSet:
    cells = [made_cell("no_inject"), made_cell("nl_relay"), made_cell("b_to_b_self_inject")]
    cells += [made_cell("replace", seed) for seed in (42, 123)]
    return ResultSet(cells)


def expectation_for(results: ResultSet, rows: int = 30, **declared: Any) -> Expectation:
    cells = [(cell.condition.name, cell.seed) for cell in results.cells]
    return Expectation.from_cells(cells, rows, SHA, **declared)


def validated(results: ResultSet, expectation: Expectation | None = None) -> ValidationReport:
    return validate(results, expectation or expectation_for(made_set()))


def write_file(cell: CellResult, folder: Path, edit: Callable[[Any], None] | None = None) -> Path:
    """Write a cell as a published file, after `edit` has changed its JSON object in place."""
    payload = write_published(
        replace(cell, dataset_sha256=CLEAN_EVAL_SHA256),
        created_at="2026-05-01T00:00:00+00:00",
        elapsed_sec=1.0,
    )
    if cell.condition.name == SHUFFLES[1]:  # a stored idx is the row's place in the whole dataset
        for row in payload["per_sample"]:
            row["idx"] += LONE
            row["shuffle_donor_idx"] += LONE
    if edit is not None:
        edit(payload)
    path = folder / published_file_name(cell)
    path.write_text(json.dumps(payload), encoding="utf-8")
    return path


def read_edited(
    tmp_path: Path, cell: CellResult, edit: Callable[[Any], None] | None = None
) -> ResultSet:
    return read_published(write_file(cell, tmp_path, edit), strict=False)
