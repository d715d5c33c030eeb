"""Pairs and runs of messages in front of the receiver's prompt, for the tests of each channel."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import nnsight

from statebridge.models.traced_model import TracedModel
from statebridge.translators import Translator
from tests.bridge.engine.tiny_experiment import EngineRun, dataset_rows, engine_pair, run_engine
from tests.reference.oracle import OraclePair
from tests.tiny_models import (
    mixed_rows,
    tiny_gemma,
    tiny_llama,
    tiny_neox,
    tiny_qwen,
    tiny_tokenizer,
)

FAMILIES: Mapping[str, Callable[[int], Any]] = {
    "neox": lambda seed: tiny_neox(seed, layers=4, hidden=32, heads=4, rotary_pct=0.5),
    "llama": lambda seed: tiny_llama(seed, layers=4, hidden=32),
    "qwen3": lambda seed: tiny_qwen(seed, version=3, layers=4, hidden=32),
    "gemma3": lambda seed: tiny_gemma(seed, version=3, layers=4, hidden=32, sliding_window=300),
}
ROWS = mixed_rows(9, seed=5)


def pair_of(family: str, sender: int = 1) -> OraclePair:
    """Two models of one shape, as two fine-tunes of one base."""
    make = FAMILIES[family]
    return OraclePair(make(sender), make(2), 1, 1, tiny_tokenizer())


def traced(module: Any) -> TracedModel:
    """The model as nnsight sees it."""
    tokenizer = tiny_tokenizer()
    model = nnsight.TransformersModel(module, task="text-generation", tokenizer=tokenizer)
    return TracedModel.wrap(model, tokenizer, 1)


def declared(name: str, **fields: Any) -> dict[str, Any]:
    """A condition that sends keys and values in a private setting."""
    base = {"source": "sender", "site": "kv", "operator": "append", "prompt": "question_only"}
    return {"name": f"my_{name}", **base, **fields}


def run(
    pair: OraclePair,
    count: int,
    path: str,
    points: Mapping[str, Mapping[str, Any]],
    *,
    new: int = 6,
    translators_by_seed: Mapping[int, Translator] | None = None,
    **fields: Any,
) -> EngineRun:
    """Run points over the first rows; `fields` are those of the experiment file."""
    file = {
        "conditions": [declared(name, **point) for name, point in points.items()],
        "rng": "published",
        "decoding": {"max_new_tokens": new},
        "execution": {"path": path},
        "seeds": [42],
    }
    if translators_by_seed is not None:
        del file["seeds"]
    rows = dataset_rows(ROWS[:count])
    return run_engine(engine_pair(pair), rows, translators_by_seed or {}, **(file | fields))
