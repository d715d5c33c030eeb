"""A sender on one device and a receiver on another give what both give on one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from statebridge.engine.fitting.stitched import stitched_cross_entropy
from statebridge.engine.run_experiment import run_experiment
from statebridge.engine.similarity.layer_similarity import layer_similarity
from statebridge.errors import EnvironmentFault
from statebridge.experiment import parse_experiment
from statebridge.experiment.experiment import Experiment
from statebridge.models import loading
from statebridge.models import pair as pair_module
from statebridge.models.pair import Pair, load_pair, same_device
from statebridge.results.run_results import read_run
from tests.bridge.engine.emulated_devices import ONE, OTHER, MixedError, emulated_devices
from tests.bridge.engine.similarity.test_similarity import corpus
from tests.bridge.engine.tiny_experiment import neox_pair, random_translator
from tests.tiny_models import save_pair_folder

SAME = {"rel": 1e-6, "abs": 1e-6}
"""The attention kernels of two devices round float64 differently; fitted maps are float32."""

RIDGE = {"fit": {"kind": "ridge", "corpus": {"generate": {"rows": 12, "seed": 9}}}}
CAUSAL = {
    "fit": {
        "kind": "ridge",
        "corpus": {"generate": {"rows": 12, "seed": 9}},
        "causal": {
            "rows": {"generate": {"rows": 8, "seed": 4}},
            "through": "private_last",
            "training": {
                "epochs": 1,
                "batch_rows": 4,
                "warmup_steps": 0,
                "validation_fraction": 0.25,
            },
        },
    }
}
APART = {"device": "cuda:1", "sender_device": "cuda:0"}
READING = ["no_inject", "scale_corrected", "additive", "shuffled_translation", "activation_replace"]
RUNS: dict[str, dict[str, Any]] = {
    "every condition": {"conditions": ["published-strict", "private-all"], "sender_checks": True},
    "debate": {"conditions": ["no_inject", "debate"], "translators": None},
    "sampled": {"conditions": ["nl_relay"], "translators": None, "decoding": {"sample": {}}},
    # Gradients need a device that torch's own engine knows; the sender has none.
    "through the receiver": {
        "conditions": ["private_last"],
        "translators": CAUSAL,
        "execution": {"device": "cpu"},
    },
    "plain": {"conditions": READING, "limit": 2, "execution": {"path": "plain"}},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `sender` and `receiver`, as `from_pretrained` reads them."""
    folder, oracle = tmp_path_factory.mktemp("pair"), neox_pair(torch.float64)
    for name, module in (("sender", oracle.sender), ("receiver", oracle.receiver)):
        save_pair_folder(module, oracle.tokenizer, folder / name)
    return folder


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine that has two GPUs, or says so."""
    with emulated_devices():
        for module in (loading, pair_module):
            monkeypatch.setattr(module, "resolve_device", _emulated)
        yield


def _emulated(device: str, _field: str = "device") -> torch.device:
    return {"cuda:0": ONE, "cuda:1": OTHER}.get(device, torch.device(device))


def experiment_of(folder: Path, devices: dict[str, str], **fields: Any) -> Experiment:
    declared = {
        "name": "two devices",
        "sender": {"model": str(folder / "sender"), "layer": 2},
        "receiver": {"model": str(folder / "receiver"), "layer": 2},
        "dataset": {"generate": {"rows": 4, "seed": 3}},
        "translators": RIDGE,
        "seeds": [42],
        "dtype": "float64",
        **fields,
    }
    limits = {"max_new_tokens": 3, "relay_max_new_tokens": 3, "max_prompt_tokens": 400}
    declared["decoding"] = limits | declared.get("decoding", {})
    declared["execution"] = devices | declared.get("execution", {})
    return parse_experiment(json.dumps(declared))


def run(out: Path, experiment: Experiment) -> dict[tuple[str, str], dict[str, Any]]:
    run_experiment(experiment, out)
    return {
        (cell.condition.name, row.row_id): asdict(row)
        for cell in read_run(out).cells
        for row in cell.lanes
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    "which",
    [pytest.param(name, marks=[pytest.mark.slow] * (name == "plain")) for name in RUNS],
)
@pytest.mark.usefixtures("two_gpus")
def test_rows_are_those_of_one_device(which: str, folder: Path, tmp_path: Path) -> None:
    expected = run(tmp_path / "one", experiment_of(folder, {"device": "cpu"}, **RUNS[which]))
    found = run(tmp_path / "two", experiment_of(folder, APART, **RUNS[which]))
    assert found.keys() == expected.keys()
    for key, row in found.items():
        for name, value in row.items():
            close = pytest.approx(expected[key][name], **SAME) if isinstance(value, float) else None
            assert value == (expected[key][name] if close is None else close), (key, name)
    manifest = json.loads((tmp_path / "two" / "manifest.json").read_text())
    on = "cpu" if which == "through the receiver" else str(OTHER)
    assert manifest["devices"] == {"sender": str(ONE), "receiver": on}
    checks = [tmp_path / side / "sender_checks.json" for side in ("one", "two")]
    assert [path.exists() for path in checks] == [which == "every condition"] * 2


@pytest.mark.slow
@pytest.mark.usefixtures("two_gpus")
def test_similarity_and_stitching_are_those_of_one_device(folder: Path) -> None:
    translator = random_translator(24, 32, seed=1, dtype=torch.float64)
    mean = torch.linspace(-1, 1, 32)
    texts = corpus()

    def measure(pair: Pair) -> list[float]:
        alike = layer_similarity(pair, texts, 20, [0, 2], [1, 3], neighbours=3, sampled=40)
        stitched = stitched_cross_entropy(pair, translator, texts.passages[:3], 20, mean)
        of_pairs = [value for each in alike.pairs for value in (each.cka, each.neighbour_overlap)]
        return [*of_pairs, stitched.translated, stitched.receiver, stitched.mean_vector]

    expected = measure(load_pair(experiment_of(folder, {"device": "cpu"})))
    translator.to(OTHER)
    assert measure(load_pair(experiment_of(folder, APART))) == pytest.approx(expected, **SAME)


@pytest.mark.usefixtures("two_gpus")
def test_a_model_on_two_devices_is_loaded_twice(folder: Path) -> None:
    itself = {
        side: {"model": str(folder / "sender"), "layer": 1} for side in ("sender", "receiver")
    }
    apart = load_pair(experiment_of(folder, APART, **itself))
    assert (apart.sender.device, apart.receiver.device) == (ONE, OTHER)
    assert apart.sender.model is not apart.receiver.model
    for devices in ({"device": "cuda:1"}, {"device": "cuda:1", "sender_device": "cuda:1"}):
        together = load_pair(experiment_of(folder, devices, **itself))
        assert together.sender.model is together.receiver.model
        assert together.sender.device == OTHER


def test_a_device_that_is_not_there_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(EnvironmentFault, match=r"^execution.sender_device cuda:1: .* has 1 CUDA"):
        load_pair(experiment_of(folder, {"device": "cpu", "sender_device": "cuda:1"}))
    assert same_device(torch.device("cuda"), torch.device("cuda:0"))
    assert not same_device(torch.device("cuda"), torch.device("cuda:1"))


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_rows_on_two_real_gpus_are_those_of_one(folder: Path, tmp_path: Path) -> None:
    fields = RUNS["every condition"]
    expected = run(tmp_path / "one", experiment_of(folder, {"device": "cuda:1"}, **fields))
    found = run(tmp_path / "two", experiment_of(folder, APART, **fields))
    assert {key: row["token_ids"] for key, row in found.items()} == {
        key: row["token_ids"] for key, row in expected.items()
    }


def test_the_emulation_refuses_what_a_gpu_refuses() -> None:
    with emulated_devices():
        one, other = torch.ones(2, device=ONE), torch.ones(2).to(OTHER)
        with pytest.raises(MixedError, match="privateuseone:0 and privateuseone:1"):
            one + other
        with pytest.raises(MixedError, match="cpu and privateuseone:0"):
            one * torch.ones(2)
        assert (one + other.to(ONE) + torch.tensor(1.0)).tolist() == [3.0, 3.0]
        one[[0]] = 5
        assert one.cpu().tolist() == [5.0, 1.0]
