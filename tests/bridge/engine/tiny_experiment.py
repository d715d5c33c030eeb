"""A tiny random pair, its rows and translators, for the engine and for the oracle alike."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import nnsight
import torch

from statebridge.channels.workload import Workload
from statebridge.engine.executors.in_process import open_path
from statebridge.engine.planning.groups import grouped
from statebridge.engine.planning.prepare import prepare
from statebridge.experiment import parse_experiment
from statebridge.models.pair import Pair
from statebridge.models.traced_model import TracedModel
from statebridge.records import DatasetRow, LaneResult
from statebridge.translators import Translator
from tests.reference.oracle import OraclePair
from tests.tiny_models import tiny_llama, tiny_neox, tiny_tokenizer

SEEDS = (42, 123)


def neox_pair(dtype: torch.dtype = torch.float32) -> OraclePair:
    """GPT-NeoX of different depth and width, at inner layers."""
    return OraclePair(
        sender=tiny_neox(seed=1, layers=3, hidden=24, heads=3).to(dtype),
        receiver=tiny_neox(seed=2, layers=4, hidden=32, heads=4).to(dtype),
        sender_layer=2,
        receiver_layer=2,
        tokenizer=tiny_tokenizer(),
    )


def llama_pair(dtype: torch.dtype = torch.float32) -> OraclePair:
    """Llama with grouped-query attention, different depth and width."""
    return OraclePair(
        sender=tiny_llama(seed=3, layers=4, hidden=32, heads=4).to(dtype),
        receiver=tiny_llama(seed=4, layers=3, hidden=24, heads=4).to(dtype),
        sender_layer=1,
        receiver_layer=1,
        tokenizer=tiny_tokenizer(),
    )


def mixed_pair(dtype: torch.dtype = torch.float32) -> OraclePair:
    """A GPT-NeoX sender and a Llama receiver with one tokenizer."""
    return OraclePair(
        sender=neox_pair(dtype).sender,
        receiver=llama_pair(dtype).sender,
        sender_layer=1,
        receiver_layer=3,
        tokenizer=tiny_tokenizer(),
    )


def engine_pair(oracle: OraclePair, **wrap: Any) -> Pair:
    """The same models as nnsight sees them."""

    def side(module: Any, tokenizer: Any, layer: int, name: str) -> TracedModel:
        model = nnsight.TransformersModel(module, task="text-generation", tokenizer=tokenizer)
        return TracedModel.wrap(model, tokenizer, layer, name=name, **wrap)

    return Pair(
        side(oracle.sender, oracle.reads_with, oracle.sender_layer, "tiny-sender"),
        side(oracle.receiver, oracle.tokenizer, oracle.receiver_layer, "tiny-receiver"),
    )


def random_translator(
    width_in: int, width_out: int, seed: int, dtype: torch.dtype = torch.float32
) -> Translator:
    """An affine translator whose output has about unit norm, as fitted ones have."""
    generator = torch.Generator().manual_seed(seed)
    translator = Translator("affine", width_in, width_out)
    weight = torch.randn((width_out, width_in), generator=generator) / width_out**0.5
    bias = 0.1 * torch.randn(width_out, generator=generator)
    translator.set_weights({"weight": weight, "bias": bias}, where="test")
    return translator.to(dtype).requires_grad_(False)


def dataset_rows(rows: Sequence[Mapping[str, str]]) -> list[DatasetRow]:
    """The oracle's dictionaries as the engine's rows."""
    return [DatasetRow(row["id"], row["context"], row["question"], row["answer"]) for row in rows]


@dataclass(frozen=True)
class EngineRun:
    """Rows by (cell name, row id), and what ran."""

    rows: dict[tuple[str, str], LaneResult]
    workload: Workload


def run_engine(
    pair: Pair,
    rows: Sequence[DatasetRow],
    translators: Mapping[int, Translator] | Mapping[tuple[str, int], Translator],
    *,
    rows_together: int = 64,
    max_lanes: int | None = None,
    **fields: Any,
) -> EngineRun:
    """Run an experiment over a loaded pair without a run directory.

    `translators` are by seed, or by name of their set and seed. `rows_together` rows form a
    group, or as many as `max_lanes` allows; `fields` are those of the experiment file.
    """
    declared: dict[str, Any] = {
        "name": "tiny",
        "sender": {"model": "tiny-sender", "layer": pair.sender.layer},
        "receiver": {"model": "tiny-receiver", "layer": pair.receiver.layer},
        "dataset": {"path": "rows.jsonl"},
    }
    if translators:
        declared |= _translator_files(translators)
    else:
        declared["seeds"] = [0]
    # A long prompt is cut as the oracle cuts it.
    fields["decoding"] = {"truncate": "right"} | fields.get("decoding", {})
    experiment = parse_experiment(json.dumps(declared | fields))
    workload = prepare(experiment, pair, rows, translators)
    together = rows_together * len(workload.plan.cells)
    workload = replace(workload, plan=grouped(workload.plan, max_lanes or together))
    path = open_path(workload)
    found: dict[tuple[str, str], LaneResult] = {}
    for group in workload.plan.groups:
        lanes = path.run(group)
        by_place = {(cell, row): lane for cell, row, lane in lanes}
        assert len(by_place) == len(lanes)
        # As they are committed: in the order of the plan, whatever the order of arrival.
        for cell, row in workload.plan.lanes(group):
            name = cell.name, rows[row].row_id
            assert name not in found
            found[name] = by_place.pop((cell, row))
        assert not by_place
    return EngineRun(found, workload)


def _translator_files(
    translators: Mapping[int, Translator] | Mapping[tuple[str, int], Translator],
) -> dict[str, Any]:
    files: dict[int, str] = {}
    sets: dict[str, dict[int, str]] = {}
    for key in translators:
        if isinstance(key, int):
            files[key] = "translator.safetensors"
        else:
            sets.setdefault(key[0], {})[key[1]] = "translator.safetensors"
    seeds = list(dict.fromkeys(seed for of_set in (files, *sets.values()) for seed in of_set))
    return {"seeds": seeds, "translators": {"sets": sets} if sets else files}
