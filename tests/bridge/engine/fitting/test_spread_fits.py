"""Fits and sender checks on actors give what one process gives, byte for byte."""

from __future__ import annotations

import pickle
import random
import re
from collections.abc import Generator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from statebridge.engine import run_experiment as runs
from statebridge.engine.cluster.connection import sent_experiment
from statebridge.engine.fitting import corpus
from statebridge.experiment import Experiment
from statebridge.models.pair import Pair, load_pair
from tests.bridge.engine.tiny_experiment import neox_pair
from tests.tiny_models import save_pair_folder

WORLD = {"hops": [2], "distractors": 0, "wording": "plain"}
SMALL = {"generate": {"rows": 100, "seed": 5, **WORLD}, "max_tokens": 24}
QUICK = {"epochs": 1, "warmup_steps": 0}
CAUSAL = {"rows": {"generate": {"rows": 16, "seed": 4, **WORLD}}, "training": QUICK}
LAST = {"prompt": "question_only", "positions": "last", "source_positions": "last"}
KEPT = {"source": "translated", "site": "kv"}
CONDITIONS = [
    *(
        {"name": f"of_{n}", "source": "translated", "translator": n, **LAST}
        for n in ("summed", "trained", "through")
    ),
    {
        "name": "mapped",
        **KEPT,
        "operator": "append",
        "translator": "caches",
        "prompt": "question_only",
    },
]
SETS: dict[str, dict[str, Any]] = {
    "summed": {"kind": "ridge", "corpus": SMALL},
    "trained": {"corpus": SMALL, "training": QUICK},
    "through": {"kind": "ridge", "corpus": SMALL, "causal": {**CAUSAL, "through": "private_last"}},
    "caches": {"kind": "kv_ridge", "corpus": SMALL, "key_values": {"heads": "all"}},
}


class Elsewhere:
    """Actors without processes: what they get and give is pickled, in an order drawn from a seed.

    Their pair is not the driver's: it is loaded again.
    """

    def __init__(self, pair: Pair) -> None:
        self.pair, self.items = pair, list[str]()

    def sent(self, experiment: Experiment, pair: Pair) -> Experiment:
        return sent_experiment(experiment, pair)

    def work(self, task: Any, items: Any) -> Generator[Any, None, None]:
        task = pickle.loads(pickle.dumps(task))
        do, drawn = task.open(self.pair), [pickle.dumps(item) for item in items]
        random.Random(1).shuffle(drawn)
        for item in map(pickle.loads, drawn):
            self.items.append(task.label(item))
            yield pickle.loads(pickle.dumps(do(item)))


def _experiment(folder: Path) -> Experiment:
    return Experiment.model_validate(
        {
            "name": "spread",
            "sender": {"model": str(folder / "sender"), "layer": 1},
            "receiver": {"model": str(folder / "receiver"), "layer": 2},
            "dataset": {"generate": {"rows": 4, "seed": 3, **WORLD}},
            "seeds": [1, 2],
            "translators": {"sets": {name: {"fit": fit} for name, fit in SETS.items()}},
            "conditions": CONDITIONS,
            "sender_checks": True,
            "decoding": {"max_prompt_tokens": 400},
            "decode": False,
            "execution": {"device": "cpu", "max_lanes": 64},
        }
    )


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut a corpus of 90 passages into six parts."""
    monkeypatch.setattr(corpus, "WINDOW", 16)
    monkeypatch.setattr(corpus, "PART_WINDOWS", 1)


def _files(folder: Path) -> dict[str, bytes]:
    found = [*folder.rglob("*.safetensors"), *folder.rglob("*.json"), folder / "rows.jsonl"]
    kept = [path for path in found if path.name != "manifest.json"]
    moments = re.compile(rb'"(seconds|created_at)": [^,]+')
    return {str(path.relative_to(folder)): moments.sub(b"", path.read_bytes()) for path in kept}


def test_a_run_s_maps_and_checks_are_those_of_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    oracle = neox_pair()
    for name, module in (("sender", oracle.sender), ("receiver", oracle.receiver)):
        save_pair_folder(module, oracle.tokenizer, tmp_path / "pair" / name)
    experiment = _experiment(tmp_path / "pair")
    runs.run_experiment(experiment, tmp_path / "one")
    actors = Elsewhere(load_pair(experiment))
    monkeypatch.setattr(runs, "held", lambda _: nullcontext(actors))
    runs.run_experiment(experiment, tmp_path / "spread")
    expected, found = _files(tmp_path / "one"), _files(tmp_path / "spread")
    assert found.keys() == expected.keys()
    for name, content in expected.items():
        assert found[name] == content, name
    for name in SETS:
        assert f"translators: set {name}, seed 2" in actors.items
    for name in ("summed", "through", "caches"):
        assert f"translators: set {name}, passages 80 to 89" in actors.items
    assert sum(item.startswith("sender_checks, rows") for item in actors.items) > 1
