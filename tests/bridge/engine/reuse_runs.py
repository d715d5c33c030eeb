"""Small runs that share a store of lanes, and what of them was computed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from statebridge.engine.executors.plain_path import PlainPath
from statebridge.engine.executors.shared_path import SharedPath
from statebridge.experiment import Experiment, parse_experiment
from statebridge.models.pair import Pair
from statebridge.runs.plan import Group
from statebridge.runs.stores import FoundLane, LaneKey
from tests.bridge.engine.tiny_experiment import engine_pair
from tests.reference.oracle import OraclePair
from tests.tiny_models import tiny_neox, tiny_tokenizer

FIELDS: dict[str, Any] = {
    "name": "tiny",
    "sender": {"model": "tiny-sender", "layer": 0},
    "receiver": {"model": "tiny-receiver", "layer": 0},
    "dataset": {"generate": {"rows": 8, "seed": 4}},
    "conditions": ["no_inject", "replace", "same_norm_random", "nl_relay"],
    "seeds": [42],
    "decoding": {"max_new_tokens": 2, "relay_max_new_tokens": 2, "max_prompt_tokens": 400},
    "execution": {"max_lanes": 9},
}


def tiny_pair() -> Pair:
    """A pair of two blocks each, at the first ones."""
    return engine_pair(
        OraclePair(
            sender=tiny_neox(1, layers=2, hidden=16, heads=2, end_share=0),
            receiver=tiny_neox(2, layers=2, hidden=24, heads=2, end_share=0),
            sender_layer=0,
            receiver_layer=0,
            tokenizer=tiny_tokenizer(),
        )
    )


def experiment_of(files: Mapping[int, Path], **changes: Any) -> Experiment:
    """The tiny experiment with translators by seed, and some fields changed."""
    translators = {str(seed): str(path) for seed, path in files.items()}
    return parse_experiment(json.dumps({**FIELDS, "translators": translators, **changes}))


@dataclass
class Lanes:
    """A store in memory: the run and the line of each key."""

    run: str = "first"
    lines: dict[LaneKey, FoundLane] = field(default_factory=dict)
    asked: int = 0

    def lookup(self, keys: Sequence[LaneKey]) -> Mapping[LaneKey, FoundLane]:
        self.asked += len(keys)
        return {key: self.lines[key] for key in keys if key in self.lines}

    def record(self, lanes: Mapping[LaneKey, bytes]) -> None:
        self.lines |= {key: FoundLane(line, self.run) for key, line in lanes.items()}


@contextmanager
def computed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[list[tuple[str, int]]]]:
    """Give the lanes (cell, row index) of every group that a path runs in the block."""
    groups: list[list[tuple[str, int]]] = []
    with monkeypatch.context() as patch:
        for path in (SharedPath, PlainPath):
            patch.setattr(path, "run", _noting(path.run, groups))
        yield groups


def _noting(run: Any, groups: list[list[tuple[str, int]]]) -> Any:
    def noted(self: Any, group: Group) -> Any:
        lanes = run(self, group)
        groups.append([(cell.name, row) for cell, row, _ in lanes])
        return lanes

    return noted
