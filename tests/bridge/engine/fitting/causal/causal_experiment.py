"""A tiny pair, rows to train a translator on through the receiver, and the experiment of both."""

from __future__ import annotations

import json
from collections.abc import Sequence
from copy import copy
from pathlib import Path
from typing import Any

import torch

from statebridge.engine.fitting.frozen_rows import FrozenRows, freeze_rows
from statebridge.experiment.conditions import Condition
from statebridge.experiment.experiment import Causal, Dataset, Experiment
from statebridge.experiment.translator_settings import CausalSettings
from statebridge.models.pair import Pair
from statebridge.records import DatasetRow
from statebridge.translators import Translator
from statebridge.translators.modules.maps import initialise
from tests.bridge.engine.tiny_experiment import dataset_rows
from tests.tiny_models import mixed_rows

QUICK = CausalSettings(
    epochs=3, batch_rows=4, warmup_steps=1, learning_rate=0.01, validation_fraction=0.25
)


def write_rows(path: Path, rows: Sequence[DatasetRow]) -> Path:
    """Write rows as the JSONL that `Dataset(path=...)` reads."""
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            fields = {"context": row.context, "question": row.question, "answer": row.answer}
            file.write(json.dumps({"id": row.row_id, **fields}) + "\n")
    return path


def rows_of(count: int, seed: int = 0) -> list[DatasetRow]:
    """Mixed rows: prompts of many lengths, answers of one word and of two."""
    return dataset_rows(mixed_rows(count, seed))


def causal_of(path: Path, through: str | Condition = "private_last", **settings: Any) -> Causal:
    """Training on the rows of a file, quickly if nothing else is given."""
    training = QUICK.model_copy(update=settings)
    return Causal(rows=Dataset(path=path), through=through, training=training)


def experiment_of(pair: Pair, dataset: Path = Path("evaluated.jsonl"), **fields: Any) -> Experiment:
    """An experiment over a pair that is loaded already."""
    declared: dict[str, Any] = {
        "name": "tiny",
        "sender": {"model": "tiny-sender", "layer": pair.sender.layer},
        "receiver": {"model": "tiny-receiver", "layer": pair.receiver.layer},
        "dataset": {"path": dataset},
        "translators": {0: "translator.safetensors"},
        "conditions": ["private_last"],
        "seeds": [0],
        "decoding": {"max_new_tokens": 4},
    }
    return Experiment.model_validate(declared | fields)


def frozen(
    pair: Pair, causal: Causal, evaluated: Sequence[DatasetRow] = (), **fields: Any
) -> FrozenRows:
    """Freeze the rows of a causal training over a loaded pair."""
    return freeze_rows(experiment_of(pair, **fields), pair, causal, evaluated)


def with_settings(rows: FrozenRows, **settings: Any) -> FrozenRows:
    """Return the same captured rows, to be trained on otherwise."""
    changed = copy(rows)
    training = rows.causal.training.model_copy(update=settings)
    changed.causal = rows.causal.model_copy(update={"training": training})
    return changed


def started(
    pair: Pair,
    kind: str = "affine",
    dtype: torch.dtype = torch.float32,
    *,
    normalize_input: bool = True,
    **options: int,
) -> Translator:
    """A translator with drawn weights, as long in its output as a fitted one."""
    translator = Translator(
        kind,
        pair.sender.width,
        pair.receiver.width,
        options=options,
        normalize_input=normalize_input,
    )
    initialise(translator, torch.Generator().manual_seed(5))
    return translator.to(dtype).requires_grad_(False)
