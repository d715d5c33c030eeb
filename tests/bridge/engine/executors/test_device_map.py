"""A model that is laid over several places gives what it gives on one device."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from statebridge.engine.doctor.readiness import check_readiness
from statebridge.engine.run_experiment import run_experiment
from statebridge.errors import EnvironmentFault, ExperimentError, PairError
from statebridge.models import loading, placement
from statebridge.models.pair import load_pair
from statebridge.models.weights import weights_sha256
from tests.bridge.engine.emulated_devices import ONE, OTHER, emulated_devices
from tests.bridge.engine.executors.test_two_devices import CAUSAL, SAME, experiment_of, run
from tests.bridge.engine.tiny_experiment import neox_pair
from tests.tiny_models import save_pair_folder

accelerate = pytest.importorskip("accelerate", reason="accelerate is not installed")

RUN: dict[str, Any] = {
    "conditions": ["no_inject", "scale_corrected", "nl_relay"],
    "limit": 1,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `sender` and `receiver`, as `from_pretrained` reads them."""
    folder, oracle = tmp_path_factory.mktemp("pair"), neox_pair(torch.float64)
    for name, module in (("sender", oracle.sender), ("receiver", oracle.receiver)):
        save_pair_folder(module, oracle.tokenizer, folder / name)
    return folder


def over(low: Any, high: Any, blocks: int) -> dict[str, Any]:
    """Return a map of a GPT-NeoX: the first block with the input, the others with the output."""
    lower = ["embed_in", "emb_dropout", "rotary_emb", "layers.0"]
    upper = ["final_layer_norm", *(f"layers.{i}" for i in range(1, blocks))]
    placed = {f"gpt_neox.{name}": low for name in lower}
    return {**placed, **{f"gpt_neox.{name}": high for name in upper}, "lm_head": high}


def maps(low: Any, high: Any) -> dict[str, Any]:
    return {"device_map": over(low, high, 4), "sender_device_map": over(low, high, 3)}


def check_rows(found: dict[Any, dict[str, Any]], expected: dict[Any, dict[str, Any]]) -> None:
    assert found.keys() == expected.keys()
    for key, row in found.items():
        for name, value in row.items():
            wanted = expected[key][name]
            if isinstance(value, float):
                wanted = pytest.approx(wanted, **SAME)
            assert value == wanted, (key, name)


@pytest.fixture(scope="module")
def on_one(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[Any, dict[str, Any]]:
    """Rows of models on one device."""
    out = tmp_path_factory.mktemp("one") / "run"
    return run(out, experiment_of(folder, {"device": "cpu"}, **RUN))


def test_rows_from_memory_and_disk_are_those_of_memory(
    folder: Path, on_one: dict[Any, dict[str, Any]], tmp_path: Path
) -> None:
    check_rows(run(tmp_path, experiment_of(folder, maps("cpu", "disk"), **RUN)), on_one)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["devices"] == {"sender": "cpu, disk", "receiver": "cpu, disk"}
    assert manifest["path"] == "plain"
    whole = load_pair(experiment_of(folder, {"device": "cpu"}, **RUN))
    for side, model in (("sender", whole.sender), ("receiver", whole.receiver)):
        assert manifest["pair"][side]["weights_sha256"] == weights_sha256(model.module)


@pytest.mark.soak
def test_a_run_laid_over_goes_on_without_a_map(folder: Path, tmp_path: Path) -> None:
    laid = experiment_of(folder, {"device_map": {"": "cpu"}}, **RUN)
    expected = run(tmp_path, laid)
    assert run(tmp_path, experiment_of(folder, {"path": "plain"}, **RUN)) == expected


@pytest.mark.slow
def test_rows_of_two_devices_are_those_of_one(
    folder: Path,
    on_one: dict[Any, dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loading, "check_map", lambda *_: None)
    named = {"cuda:0": ONE, "cuda:1": OTHER}
    load = loading.map_arguments

    def emulated(device_map: Any) -> dict[str, Any]:
        return load({path: named[place] for path, place in device_map.items()})

    monkeypatch.setattr(loading, "map_arguments", emulated)
    with emulated_devices():
        check_rows(run(tmp_path, experiment_of(folder, maps("cuda:0", "cuda:1"), **RUN)), on_one)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["devices"]["receiver"] == f"{ONE}, {OTHER}"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"device_map": "spread"}, "execution.device_map: give auto, balanced, or a place for"),
        ({"device_map": {"lm_head": "gpu"}}, "lm_head: give cuda:N, cpu or disk, not 'gpu'"),
        ({"device_map": "auto", "device": "cpu"}, "says where the receiver is; leave device out"),
        ({"device_map": "auto", "path": "shared"}, "execution.device_map: needs the plain path"),
        ({"device_map": "auto", "executor": "another"}, "is for executors in_process and ray"),
    ],
)
def test_a_map_that_cannot_be_declared_is_one_line(
    fields: dict[str, Any], words: str, folder: Path
) -> None:
    with pytest.raises(ExperimentError) as refused:
        experiment_of(folder, fields, **RUN)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"remote": "local"}, "the host of a remote run places its models itself"),
        ({"sender_checks": True}, "sender_checks needs each model on one device"),
        ({"decoding": {"sample": {}}}, "which only decodes greedily"),
        ({"conditions": ["no_inject", "kv_all"]}, "condition kv_all reads or writes more than"),
        ({"translators": CAUSAL}, "fit.causal needs each model on one device"),
    ],
)
def test_a_map_goes_with_states_of_one_block(
    more: dict[str, Any], words: str, folder: Path
) -> None:
    with pytest.raises(ExperimentError, match=words):
        experiment_of(folder, {"device_map": "auto"}, **(RUN | more))


@pytest.mark.parametrize(
    ("device_map", "words"),
    [
        ("auto", "execution.device_map auto: lays a model over GPUs, and torch finds no CUDA here"),
        ({"": "cuda:3"}, "execution.device_map cuda:3: this machine has 0 CUDA device"),
        ({"": "disk"}, "execution.device_map: all of it is on disk"),
    ],
)
def test_a_machine_without_the_places_is_refused(device_map: Any, words: str, folder: Path) -> None:
    experiment = experiment_of(folder, {"device_map": device_map}, **RUN)
    found = {check.what: check for check in check_readiness(experiment)}["device"]
    assert not found.ready
    assert words.removeprefix("execution.device_map") in found.detail
    with pytest.raises(EnvironmentFault, match=words.removeprefix("execution.")):
        load_pair(experiment)


def test_a_map_of_another_model_is_refused(folder: Path) -> None:
    declared = {"device_map": {"": "cpu", "model.layers.0": "disk"}}
    with pytest.raises(
        PairError, match=r"do not match any submodules in the model: \['model.layers.0'"
    ):
        load_pair(experiment_of(folder, declared, **RUN))
    with pytest.raises(PairError, match="does not give any device for the following parameters"):
        load_pair(
            experiment_of(
                folder, {"device_map": {"lm_head": "cpu", "gpt_neox.layers.0": "disk"}}, **RUN
            )
        )


def test_a_loaded_pair_laid_over_needs_a_map(folder: Path, tmp_path: Path) -> None:
    pair = load_pair(experiment_of(folder, maps("cpu", "disk"), **RUN))
    with pytest.raises(PairError, match="loaded pair has places cpu, disk"):
        run_experiment(experiment_of(folder, {"device": "cpu"}, **RUN), tmp_path, pair=pair)


def test_accelerate_is_asked_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "find_spec", lambda _: None)
    with pytest.raises(EnvironmentFault, match="device_map: needs accelerate; install it with"):
        load_pair(experiment_of(folder, {"device_map": {"": "cpu"}}, **RUN))
