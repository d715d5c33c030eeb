"""A fit that the same key has had made before is taken: the same bytes, and nothing of others."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from statebridge.engine.run_experiment import run_experiment
from statebridge.experiment import Experiment, parse_experiment
from statebridge.models.pair import Pair, load_pair
from statebridge_server.worker.fits import EarlierFits

FIT = {"kind": "ridge", "corpus": {"generate": {"rows": 20, "seed": 9}}}


def declared(pair_folder: Path, **fields: Any) -> Experiment:
    whole = {
        "name": "tiny",
        "sender": {"model": str(pair_folder / "sender"), "layer": 1},
        "receiver": {"model": str(pair_folder / "receiver"), "layer": 1},
        "dataset": {"generate": {"rows": 2, "seed": 3}},
        "translators": {"fit": FIT},
        "conditions": ["replace"],
        "seeds": [1, 2],
        "decode": False,
        **fields,
    }
    return parse_experiment(json.dumps(whole))


class Runs:
    """Runs in one data directory, and which stages each went through."""

    def __init__(self, pair: Pair, pair_folder: Path, data: Path) -> None:
        self.pair, self.pair_folder, self.data = pair, pair_folder, data
        self.made = 0

    def fitted(self, owner: str = "ann", **fields: Any) -> tuple[Path, bool]:
        """Run; return the run's directory and whether it fitted anything."""
        self.made += 1
        out, stages = self.data / "runs" / f"exp_{self.made}", set()
        run_experiment(
            declared(self.pair_folder, **fields),
            out,
            pair=self.pair,
            progress=lambda stage, *_: stages.add(stage),
            fits=EarlierFits(owner, self.data),
        )
        return out, "capture" in stages

    def kept(self, owner: str = "ann") -> list[Path]:
        return sorted((self.data / "fits" / owner).glob("*.safetensors"))


@pytest.fixture(scope="module")
def pair(pair_folder: Path) -> Pair:
    return load_pair(declared(pair_folder))


@pytest.fixture
def runs(pair: Pair, pair_folder: Path, tmp_path: Path) -> Runs:
    return Runs(pair, pair_folder, tmp_path)


def test_the_same_fit_is_taken_and_its_rows_are_the_same(runs: Runs) -> None:
    first, fitted = runs.fitted()
    assert fitted
    # Another experiment around the same fit.
    changes = {"name": "again", "seeds": [2], "conditions": ["additive", "replace"], "limit": 1}
    for fields in ({}, changes):
        again, fitted = runs.fitted(**fields)
        assert not fitted
        for name in ("seed2.safetensors", "seed2.json"):
            assert (again / "translators" / name).samefile(first / "translators" / name)
    second = runs.data / "runs" / "exp_2"
    assert (second / "rows.jsonl").read_bytes() == (first / "rows.jsonl").read_bytes()
    origins = [
        json.loads((run / "manifest.json").read_bytes())["translators"] for run in (first, second)
    ]
    assert origins[0] == origins[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        {"translators": {"fit": FIT | {"ridge": {"regularisation": 0.5}}}},
        {"translators": {"fit": FIT | {"corpus": {"generate": {"rows": 20, "seed": 8}}}}},
        {"translators": {"fit": FIT | {"kind": "procrustes"}}},
        {"prompts": {"task": "{context} Q: {question} A:"}},
        {"seeds": [3]},
        {"execution": {"reuse": False}},
        {"owner": "bob"},
    ],
)
def test_any_other_fit_is_made(runs: Runs, change: dict[str, Any]) -> None:
    assert runs.fitted()[1]
    assert runs.fitted(**change)[1]


@pytest.mark.slow
def test_another_layer_or_other_weights_are_another_fit(runs: Runs, pair_folder: Path) -> None:
    assert runs.fitted()[1]
    sender = declared(pair_folder).sender.model_copy(update={"layer": 0})
    assert runs.fitted(sender=sender.model_dump())[1]
    runs.pair = load_pair(declared(pair_folder))
    next(iter(runs.pair.sender.module.parameters())).data[0, 0] += 1
    assert runs.fitted()[1]


def test_only_a_new_seed_is_fitted(runs: Runs) -> None:
    first, _ = runs.fitted(seeds=[1])
    second, fitted = runs.fitted(seeds=[1, 2])
    assert fitted
    assert len(runs.kept()) == 2
    taken = "translators/seed1.safetensors"
    assert (second / taken).samefile(first / taken)


def test_what_is_damaged_is_fitted_again(runs: Runs) -> None:
    first, _ = runs.fitted(seeds=[1])
    whole = (first / "translators" / "seed1.safetensors").read_bytes()
    (kept,) = runs.kept()
    kept.unlink()
    kept.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    again, fitted = runs.fitted(seeds=[1])
    assert fitted
    assert (again / "translators" / "seed1.safetensors").read_bytes() == whole
    assert not runs.fitted(seeds=[1])[1]


def test_what_nothing_uses_any_more_goes(runs: Runs) -> None:
    first, _ = runs.fitted(seeds=[1])
    (old,) = runs.kept()
    shutil.rmtree(first)
    runs.fitted(seeds=[2])
    assert old not in runs.kept()
    assert not old.with_suffix(".json").exists()
    assert len(runs.kept()) == 1
