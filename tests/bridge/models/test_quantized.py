"""Weights of 4 and 8 bits: computed on a CPU where bitsandbytes is installed, else refused."""

from __future__ import annotations

import json
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from statebridge.engine.doctor.readiness import check_readiness
from statebridge.engine.run_experiment import run_experiment
from statebridge.errors import EnvironmentFault, ExperimentError, PairError
from statebridge.experiment import parse_experiment
from statebridge.experiment.experiment import Experiment
from statebridge.models import quantized
from statebridge.models.pair import load_pair
from statebridge.models.quantized import weight_bytes
from statebridge.models.weights import weights_sha256
from statebridge.results.run_results import read_run
from tests.bridge.engine.executors.test_two_devices import CAUSAL
from tests.tiny_models import save_pair_folder, tiny_neox, tiny_tokenizer

needs_bitsandbytes = pytest.mark.skipif(
    find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, and one whose checkpoint is quantized already."""
    folder = tmp_path_factory.mktemp("models")
    for name in ("whole", "gptq"):
        save_pair_folder(tiny_neox(seed=3, hidden=64, heads=2), tiny_tokenizer(), folder / name)
    config = folder / "gptq" / "config.json"
    declared = json.loads(config.read_text()) | {
        "quantization_config": {"quant_method": "gptq", "bits": 4}
    }
    config.write_text(json.dumps(declared))
    return folder


def experiment_of(
    folder: Path, bits: Any = None, model: str = "whole", **fields: Any
) -> Experiment:
    side = {"model": str(folder / model), "layer": 1}
    few = {} if bits is None else {"weights": {"bits": bits}}
    declared = {
        "name": "few bits",
        "sender": side | few,
        "receiver": side | few,
        "dataset": {"generate": {"rows": 3, "seed": 3}},
        "conditions": ["no_inject", "b_to_b_self_inject", "nl_relay"],
        "seeds": [1],
        "decoding": {"max_new_tokens": 3, "relay_max_new_tokens": 3, "max_prompt_tokens": 400},
    }
    declared["execution"] = {"device": "cpu"} | fields.pop("execution", {})
    return parse_experiment(json.dumps(declared | fields))


@needs_bitsandbytes
@pytest.mark.parametrize("bits", [4, 8])
def test_both_paths_give_the_same_tokens(bits: int, folder: Path, tmp_path: Path) -> None:
    found = {}
    for path in ("shared", "plain"):
        out = tmp_path / path
        run_experiment(experiment_of(folder, bits, execution={"path": path}), out)
        found[path] = {
            (cell.condition.name, row.row_id): asdict(row)["token_ids"]
            for cell in read_run(out).cells
            for row in cell.lanes
        }
    assert found["shared"] == found["plain"]
    manifest = json.loads((tmp_path / "plain" / "manifest.json").read_text())
    assert manifest["experiment"]["sender"]["weights"] == {"bits": bits, "by": "bitsandbytes"}
    assert "bitsandbytes" in manifest["versions"]
    assert any(f"weights of {bits} bits" in caution for caution in manifest["cautions"])


@needs_bitsandbytes
def test_weights_are_part_of_a_run(folder: Path) -> None:
    pairs = {bits: load_pair(experiment_of(folder, bits)) for bits in (None, 4, 8)}
    hashes = {weights_sha256(pair.sender.module) for pair in pairs.values()}
    assert len(hashes) == 3
    assert pairs[4].sender.module is pairs[4].receiver.module
    with pytest.raises(PairError, match="loaded pair has weights bits=4"):
        run_experiment(experiment_of(folder), folder / "refused", pair=pairs[4])
    for bits, pair in pairs.items():
        kept = sum(p.numel() * p.element_size() for p in pair.sender.module.parameters())
        weights = experiment_of(folder, bits).sender.weights
        assert weight_bytes(pairs[None].sender.module, weights, 4) == kept


@needs_bitsandbytes
@pytest.mark.parametrize("bits", [4, 8])
def test_a_row_does_not_depend_on_those_beside_it(bits: int, folder: Path) -> None:
    model = load_pair(experiment_of(folder, bits)).sender
    rows = [[3, 5, 7, 11], [9, 9, 30, 40], [1, 2, 3, 4]]
    together = model.next_logits(model.pack(rows))
    alone = torch.cat([model.next_logits(model.pack([row])) for row in rows])
    # Matrix products of other shapes round otherwise; outlier columns moved these logits by 0.1.
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("bits", "more", "words"),
    [
        (3, {}, "sender.weights.bits: "),
        (4, {"remote": "local"}, "sender.weights: a remote host holds models as they are"),
        (4, {"translators": CAUSAL}, "receiver.weights: fit.causal needs gradients through whole"),
        (8, {"dtype": "float64"}, "sender.weights: nothing computes in float64"),
    ],
)
def test_weights_that_cannot_be_declared_are_one_line(
    bits: int, more: dict[str, Any], words: str, folder: Path
) -> None:
    with pytest.raises(ExperimentError, match=words) as refused:
        experiment_of(folder, bits, **more)
    assert "\n" not in str(refused.value)


def test_an_adapter_needs_whole_weights(folder: Path) -> None:
    side = {"model": "a/b", "layer": 1, "weights": {"bits": 4}, "adapter": "a/c"}
    with pytest.raises(ExperimentError, match="weights: an adapter is added to whole weights"):
        experiment_of(folder, sender=side)


def test_the_library_is_asked_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantized, "find_spec", lambda name: None)
    words = "weights of 4 bits: needs bitsandbytes; install it with pip install"
    found = {check.what: check for check in check_readiness(experiment_of(folder, 4))}
    assert not found["sender"].ready
    assert words in found["sender"].detail
    with pytest.raises(EnvironmentFault, match=words):
        load_pair(experiment_of(folder, 4))


def test_a_quantized_checkpoint_is_taken_as_it_is(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantized, "find_spec", lambda name: True)
    experiment = experiment_of(folder, 4, model="gptq")
    found = {check.what: check for check in check_readiness(experiment)}
    assert "its checkpoint is quantized already" in found["sender"].detail
    with pytest.raises(PairError, match="its checkpoint is quantized already"):
        load_pair(experiment)
