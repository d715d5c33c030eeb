"""Published result files (schema `h1_final_runner.v1` of arXiv 2606.03280): writing."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from statebridge.errors import ResultError, nearest
from statebridge.experiment.conditions import Condition
from statebridge.papers.linear_translation.result_reader import SCHEMA_VERSIONS
from statebridge.records import CellResult, DatasetRow, LaneResult
from statebridge.scoring.metrics import METRICS


def published_injection(cell: CellResult) -> dict[str, Any]:
    """Return a cell's `injection` block in the published words.

    A cell read from a published file has it already; the condition of a run directory's cell
    is put into these words.

    Raises:
        ResultError: The published format has no words for this condition.
    """
    if cell.published_injection is not None:
        return dict(cell.published_injection)
    condition = cell.condition
    if not isinstance(condition, Condition):
        raise ResultError(f"{cell.source}: nothing is declared of condition {condition.name}")
    source, operator, weight = condition.source, condition.operator, condition.weight
    places = (condition.positions, condition.source_positions)
    if condition.prompt not in ("task", "relay"):
        raise ResultError(
            f"{cell.source}: condition {condition.name} (prompt {condition.prompt}) cannot be "
            "written in the published format, which knows no private context"
        )
    if not condition.writes:
        return {"mode": "natural_language" if condition.uses_text else "none"}
    block: dict[str, Any] = {"mode": None, "timing": "prefill_only"}
    if operator == "add" and places == ("all", "last") and not condition.match_norm:
        block |= {"mode": "additive", "scale": weight, "alpha": None}
    elif operator == "blend" and places == ("all", "all") and condition.match_norm:
        block |= {"mode": "replace_scale_corrected", "scale": None, "alpha": weight}
    elif operator == "blend" and places == ("all", "all") and weight == 1.0:
        block |= {"mode": "replace", "scale": None, "alpha": None}
    written = (source, block["mode"])
    if source in ("translated", "shuffled") and block["mode"] is not None:
        shuffled_mode = block["mode"].removeprefix("replace_") if source == "shuffled" else None
        block["shuffle_injection_mode"] = shuffled_mode
        if source == "shuffled":
            block["shuffle_excluded_singleton_count"] = cell.excluded_rows or 0
        if written != ("shuffled", "additive"):
            return block
    if written in _OTHER_SOURCES:
        del block["scale"]
        alpha = block.pop("alpha")
        block["source"] = _OTHER_SOURCES[written]
        return block if alpha is None else block | {"alpha": alpha}
    raise ResultError(
        f"{cell.source}: condition {condition.name} (source {source}, operator {operator}) "
        "cannot be written in the published format, which knows the conditions of "
        "arXiv 2606.03280 only"
    )


_OTHER_SOURCES = {
    ("receiver", "replace"): "receiver_self",
    ("random", "replace_scale_corrected"): "random_direction",
    ("zero", "replace"): "zero_vector",
}
_CONFIG_KEYS = ("tier", "task", "test_file", "clean_eval_version", "layer_rel", "device")
_MODEL_KEYS = ("model_a", "model_b", "layer_a", "layer_b")


def write_published(
    cell: CellResult,
    *,
    created_at: str,
    elapsed_sec: float,
    dataset: Mapping[str, DatasetRow] | None = None,
    models: Mapping[str, str | None] | None = None,
    config: Mapping[str, Any] | None = None,
    checkpoint: str | None = None,
) -> dict[str, Any]:
    """Return a cell as the JSON object of a published file; what its schema lacks is left out.

    Args:
        cell: From a published file or a run directory.
        created_at: ISO 8601 time.
        elapsed_sec: Seconds that the cell took.
        dataset: Rows in the order of the dataset; gives each row's `idx` (its place in the
            cell otherwise) and its provenance fields.
        models: model_a (sender), model_b (receiver), layer_a, layer_b; the cell's own unless
            given.
        config: tier, task, test_file, clean_eval_version, layer_rel, device, where known.
        checkpoint: The translator's file.

    Raises:
        ResultError: The cell has no row or a row without prediction, or the published format
            has no words for its condition.
    """
    unknown = next((key for key in config or {} if key not in _CONFIG_KEYS), None)
    if unknown is not None:
        raise ResultError(f"config: unknown key {unknown!r}; {nearest(unknown, _CONFIG_KEYS)}")
    injection = published_injection(cell)
    rows = _published_rows(cell, injection, dataset or {})
    shuffled = injection.get("shuffle_injection_mode") is not None
    n = len(rows)
    return {
        "schema_version": SCHEMA_VERSIONS[-1],
        "created_at": created_at,
        "condition": cell.condition.name,
        "direction": cell.direction,
        "seed": cell.seed,
        "deterministic": cell.seed is None,
        "config": _published_config(cell, config or {}, injection, shuffled),
        "models": _published_models(cell, models, injection),
        "checkpoint": checkpoint,
        "injection": injection,
        "elapsed_sec": elapsed_sec,
        "per_sample": rows,
        "metrics": {
            "n": n,
            "contains_acc": sum(row["legacy_contains"] for row in rows) / n,
            "exact_match_acc": sum(row["legacy_exact_match"] for row in rows) / n,
        },
        "diagnostics": {
            "mean_prompt_len_a": _mean_of(rows, "prompt_len_a"),
            "mean_prompt_len_b": _mean_of(rows, "prompt_len_b"),
            "mean_translated_norm": _mean_of(rows, "translated_norm_mean"),
            "mean_b_hidden_norm": _mean_of(rows, "b_hidden_norm_mean"),
            "mean_injected_norm": _mean_of(rows, "injected_norm_mean"),
            "seq_len_mismatch_count": sum(row.get("seq_len_match") is False for row in rows),
            "token_mismatch_count": sum(row.get("token_ids_match") is False for row in rows),
            "shuffle_self_fallback_count": sum(
                row.get("shuffle_self_fallback") is True for row in rows
            ),
        },
    }


def _published_config(
    cell: CellResult, config: Mapping[str, Any], injection: Mapping[str, Any], shuffled: bool
) -> dict[str, Any]:
    decoding = cell.decoding
    generation = {
        "max_new_tokens": decoding.get("max_new_tokens"),
        "do_sample": False,
        "repetition_penalty": decoding.get("repetition_penalty"),
        "no_repeat_ngram_size": decoding.get("no_repeat_ngram_size"),
    }
    relayed = {**generation, "max_new_tokens": decoding.get("relay_max_new_tokens")}
    block = {
        "tier": config.get("tier"),
        "task": config.get("task"),
        "test_file": config.get("test_file"),
        "clean_eval_hash": cell.dataset_sha256,
        "clean_eval_version": config.get("clean_eval_version"),
        "n_samples": len(cell.lanes),
        "max_length": decoding.get("max_prompt_tokens"),
        "layer_rel": config.get("layer_rel"),
        "device": config.get("device"),
        "generation": generation,
        "sender_generation": decoding.get("sender_generation", relayed)
        if injection["mode"] == "natural_language"
        else None,
    }
    return block | ({"source_clean_eval_n_samples": cell.source_rows} if shuffled else {})


def _published_models(
    cell: CellResult, models: Mapping[str, str | None] | None, injection: Mapping[str, Any]
) -> dict[str, Any]:
    given = cell.models if models is None else models
    absent = [key for key in _MODEL_KEYS if key not in given]
    if absent:
        raise ResultError(
            f"{cell.source}: {cell.name}: models lacks {absent[0]}; the published format names "
            f"{', '.join(_MODEL_KEYS)}"
        )
    block = {key: given[key] for key in _MODEL_KEYS}
    # The published files name as sender what the injected state was made of.
    if injection.get("source") == "receiver_self":
        block |= {"model_a": block["model_b"], "layer_a": block["layer_b"]}
    elif injection.get("source") is not None:
        block |= {"model_a": injection["source"], "layer_a": None}
    elif injection["mode"] == "none":
        block["layer_a"] = None
    return block


def _published_rows(
    cell: CellResult, injection: Mapping[str, Any], dataset: Mapping[str, DatasetRow]
) -> list[dict[str, Any]]:
    if not cell.lanes:
        raise ResultError(f"{cell.source}: {cell.name} has no row; there is nothing to write")
    order = list(dataset) or [row.row_id for row in cell.lanes]
    index = {row_id: position for position, row_id in enumerate(order)}
    rows: list[dict[str, Any]] = []
    for row in cell.lanes:
        if row.prediction is None:
            raise ResultError(
                f"{cell.source}: {cell.name}: row {row.row_id!r} has no prediction; the published "
                "format needs decoded text"
            )
        for row_id in (row.row_id, row.donor_row_id):
            if row_id is not None and row_id not in index:
                raise ResultError(
                    f"{cell.source}: {cell.name}: row {row_id!r} is not in the dataset given"
                )
        contains = METRICS["legacy_contains"](row.prediction, row.gold)
        exact = METRICS["exact_match"](row.prediction, row.gold)
        provenance = dataset[row.row_id].attributes if dataset else {}
        rows.append(
            {
                "idx": index[row.row_id],
                "sample_id": row.row_id,
                "gold": row.gold,
                "prediction": row.prediction,
                "legacy_contains": contains,
                "legacy_exact_match": exact,
                "eval_result": {"correct": contains, "exact_match": exact},
                **{
                    key: provenance[key]
                    for key in ("source_eval_index", "source_component_file")
                    if key in provenance
                },
                **_published_measurements(row, injection, index),
            }
        )
    if injection.get("shuffle_injection_mode") is not None:
        alone = sum(written["shuffle_self_fallback"] is True for written in rows)
        for written in rows:
            written["shuffle_fallback_count_run"] = alone
            written["shuffle_excluded_singleton_count_run"] = cell.excluded_rows or 0
    return rows


def _published_measurements(
    row: LaneResult, injection: Mapping[str, Any], index: Mapping[str, int]
) -> dict[str, Any]:
    """The fields of a row that depend on the condition, in the published order."""
    if injection["mode"] == "natural_language":
        return {
            "relay": row.relay,
            "sender_prompt_len": row.relay_prompt_len,
            "prompt_len_b": row.prompt_len_receiver,
            "prompt_mode": "nl_relay",
        }
    if injection["mode"] == "none" or "source" in injection:
        fields: dict[str, Any] = {"prompt_len_b": row.prompt_len_receiver}
        fields["prompt_mode"] = "full_input"
    else:
        fields = {"prompt_len_a": row.prompt_len_sender, "prompt_mode": "full_input"}
        fields["prompt_len_b"] = row.prompt_len_receiver
    if injection["mode"] == "none":
        return fields
    fields |= {
        "token_ids_match": row.token_ids_match,
        "seq_len_match": row.seq_len_match,
        "translated_norm_mean": row.translated_norm_mean,
        "b_hidden_norm_mean": row.receiver_norm_mean,
        "injected_norm_mean": row.injected_norm_mean,
    }
    if injection.get("shuffle_injection_mode") is not None:
        donor = row.donor_row_id
        fields["shuffle_donor_idx"] = None if donor is None else index[donor]
        fields["shuffle_self_fallback"] = row.donor_self_fallback
    return fields


def _mean_of(rows: Sequence[Mapping[str, Any]], key: str) -> float | None:
    # statistics.mean sums exactly and rounds once, as the published numbers do.
    values = [row[key] for row in rows if row.get(key) is not None]
    return float(statistics.mean(values)) if values else None
