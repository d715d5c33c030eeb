"""A small layer search as it is declared, and results made up for one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from statebridge.experiment import Experiment, parse_experiment
from statebridge.records import CellResult, DatasetRow, LaneResult, ResultSet
from statebridge.results.layer_search import (
    LayerRun,
    Layers,
    LayerSearchPlan,
    LayerSearchResults,
    split_rows,
)

HALF: dict[str, Any] = {
    "name": "half",
    "source": "translated",
    "weight": 0.5,
    "prompt": "question_only",
    "positions": "last",
    "source_positions": "last",
}
EXPERIMENT: dict[str, Any] = {
    "name": "tiny-layer-search",
    "sender": {"model": "./sender", "layer": 0},
    "receiver": {"model": "./receiver", "layer": 0},
    "dataset": {"generate": {"rows": 28, "hops": [2], "distractors": 0}},
    "translators": {"fit": {"kind": "ridge", "corpus": {"generate": {"rows": 30, "seed": 9}}}},
    "conditions": ["question_only", "skyline", "private_last", "private_last_random", HALF],
    "seeds": [42, 123],
    "decode": False,
    "layer_search": {
        "sender_layers": [0, 2],
        "receiver_layers": [1, -1],
        "choose": {"condition": ["private_last", "half"]},
    },
}
LAYERS: tuple[Layers, ...] = ((0, 1), (0, 3), (2, 1), (2, 3))


def tiny_layer_search(**changes: Any) -> Experiment:
    """The experiment with some fields changed, such as `limit` or `layer_search`."""
    return parse_experiment(yaml.safe_dump(EXPERIMENT | changes))


Value = Callable[[Layers, str, int | None, str], float]
"""Gold log-probability by layers, condition, seed and row id."""


def made_search(
    value: Value, rows: int = 60, seeds: Sequence[int] = (42, 123), **changes: Any
) -> LayerSearchResults:
    """Results of the layer search with values made up."""
    ids = [f"row{index:03}" for index in range(rows)]
    split = split_rows(ids, 0.5, 0)
    plan = LayerSearchPlan(
        experiment=tiny_layer_search(seeds=list(seeds), **changes).model_dump(mode="json"),
        dataset_sha256="0" * 64,
        split=split,
        runs=tuple(
            LayerRun(sender_layer=s, receiver_layer=r, directory=f"s{s:02}-r{r:02}")
            for s, r in LAYERS
        ),
    )
    return LayerSearchResults(Path("made"), plan, {at: _run(value, at, ids, plan) for at in LAYERS})


def _run(value: Value, at: Layers, ids: Sequence[str], plan: LayerSearchPlan) -> ResultSet:
    experiment = plan.declared
    cells = [
        CellResult(
            condition=condition,
            seed=seed,
            direction="fwd",
            lanes=[
                LaneResult(i, "gold", None, gold_logprob=value(at, condition.name, seed, i))
                for i in ids
            ],
            source=Path("made"),
            models=_models(at),
        )
        for condition in experiment.resolved_conditions
        for seed in (experiment.seeds if condition.seeded else (None,))
    ]
    return ResultSet(cells, {i: DatasetRow(i, "context", "question", "gold") for i in ids})


def _models(at: Layers) -> Mapping[str, Any]:
    return {"sender": {"layer": at[0]}, "receiver": {"layer": at[1]}}
