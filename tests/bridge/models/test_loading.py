"""Loading and checking the two sides of a pair."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nnsight
import pytest
import torch

from statebridge.errors import EnvironmentFault, NumericError, PairError
from statebridge.experiment import parse_experiment
from statebridge.experiment.experiment import ModelAtLayer
from statebridge.models.loading import (
    load_model,
    resolve_device,
)
from statebridge.models.pair import load_pair
from statebridge.models.token_batch import TokenBatch
from statebridge.models.traced_model import TracedModel, check_finite
from statebridge.models.weights import weights_sha256
from tests.tiny_models import (
    VOCAB,
    save_pair_folder,
    tiny_llama_tokenizer,
    tiny_neox,
    tiny_padded_tokenizer,
    tiny_tokenizer,
)


def _tiny(seed: int = 1, **settings: Any) -> Any:
    return tiny_neox(seed, layers=3, hidden=16, heads=2, end_share=0, **settings)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_pair_folder(_tiny(), tiny_tokenizer(), tmp_path_factory.mktemp("models") / "tiny")


def _wrap(module: Any, tokenizer: Any, layer: Any = 0) -> TracedModel:
    model = nnsight.TransformersModel(module, task="text-generation", tokenizer=tokenizer)
    return TracedModel.wrap(model, tokenizer, layer)


def test_a_loaded_model_is_the_saved_one(folder: Path) -> None:
    loaded = load_model(ModelAtLayer(model=str(folder), layer=0.67), device="cpu")
    assert (loaded.name, loaded.layer, loaded.layer_path) == ("tiny", 2, "gpt_neox.layers.2")
    assert (loaded.width, loaded.window, loaded.dtype) == (16, 512, torch.float32)
    assert not loaded.module.training
    assert not any(parameter.requires_grad for parameter in loaded.module.parameters())
    saved = _tiny().state_dict()
    assert all(torch.equal(saved[name], x) for name, x in loaded.module.state_dict().items())


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16"])
def test_weights_come_in_the_declared_dtype(dtype: str, folder: Path) -> None:
    loaded = load_model(ModelAtLayer(model=str(folder), layer=0), dtype=dtype, device="cpu")
    assert {p.dtype for p in loaded.module.parameters()} == {getattr(torch, dtype)}
    states = loaded.capture(TokenBatch.pack([[5, 6], [7]], loaded.pad_id))
    assert states.dtype == getattr(torch, dtype)


def test_a_home_folder_and_a_relative_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder.parent))
    monkeypatch.chdir(folder.parent)
    for model in ("~/tiny", "./tiny"):
        assert load_model(ModelAtLayer(model=model, layer=0), device="cpu").name == "tiny"


def test_the_hash_of_weights_is_theirs_alone(folder: Path, tmp_path: Path) -> None:
    first = load_model(ModelAtLayer(model=str(folder), layer=0), device="cpu").module
    elsewhere = save_pair_folder(_tiny(), tiny_tokenizer(), tmp_path / "elsewhere")
    second = load_model(ModelAtLayer(model=str(elsewhere), layer=2), device="cpu").module
    assert weights_sha256(first) == weights_sha256(second)
    with torch.no_grad():
        next(second.parameters())[0, 0] += 1e-6
    assert weights_sha256(first) != weights_sha256(second)
    assert weights_sha256(_tiny().double()) != weights_sha256(first)
    with torch.device("meta"):
        assert weights_sha256(torch.nn.Linear(2, 2)) is None


def test_one_model_on_both_sides_is_loaded_once(folder: Path, tmp_path: Path) -> None:
    def pair(sender: Path, receiver: Path) -> Any:
        text = (
            f"name: x\nsender: {{model: {sender}, layer: 0}}\nreceiver: {{model: {receiver}, "
            "layer: -1}\ndataset: {path: a}\nconditions: [no_inject]\nexecution: {device: cpu}\n"
        )
        return load_pair(parse_experiment(text))

    shared = pair(folder, folder)
    assert shared.sender.module is shared.receiver.module
    assert shared.sender.tokenizer is shared.receiver.tokenizer
    assert (shared.sender.layer, shared.receiver.layer) == (0, 2)
    other = save_pair_folder(_tiny(2), tiny_tokenizer(), tmp_path / "other")
    apart = pair(folder, other)
    assert apart.sender.module is not apart.receiver.module


@pytest.mark.parametrize("side", ["sender", "receiver"])
def test_a_layer_that_is_not_there_is_found_before_loading(
    side: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("statebridge.models.pair.load_model", None)
    sides = {name: {"model": str(folder), "layer": 0} for name in ("sender", "receiver")}
    sides[side]["layer"] = 99
    fields = {"name": "x", "dataset": {"path": "a"}, "conditions": ["no_inject"], **sides}
    with pytest.raises(PairError, match=rf"^{side}\.layer: layer 99 of tiny is out of range"):
        load_pair(parse_experiment(json.dumps(fields)))


# ---------------------------------------------------------------- special tokens


def test_pad_and_end_tokens() -> None:
    neox = _wrap(_tiny(), tiny_tokenizer())
    assert (neox.end_ids, neox.pad_id) == ((0,), 0)
    padded = _wrap(_tiny(), tiny_padded_tokenizer())
    assert (padded.end_ids, padded.pad_id) == ((0,), 1)
    module = _tiny()
    module.generation_config.eos_token_id = [7, 9]
    several = _wrap(module, tiny_tokenizer())
    assert several.end_ids == (7, 9)
    module.generation_config.eos_token_id = None
    assert _wrap(module, tiny_llama_tokenizer()).end_ids == (2,)


def test_a_pad_token_that_the_model_has_no_row_for_is_not_used() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    assert tokenizer.pad_token_id == VOCAB
    model = _wrap(_tiny(), tokenizer)
    assert model.pad_id == 0
    model.capture(TokenBatch.pack([[5], [6, 7]], model.pad_id))


# ---------------------------------------------------------------- checks


def test_a_block_of_another_width_is_refused() -> None:
    module = _tiny()
    module.config.hidden_size = 24
    with pytest.raises(PairError, match=r"gpt_neox\.layers\.0 puts out \(1, 1, 16\)"):
        _wrap(module, tiny_tokenizer())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_non_finite_states_are_refused_at_real_tokens_only(value: float) -> None:
    states = torch.zeros((2, 3, 4))
    mask = torch.tensor([[False, True, True], [True, True, True]])
    states[0, 0, 2] = value
    check_finite(states, mask, "here")
    states[1, 2, 3] = value
    with pytest.raises(NumericError, match="here: non-finite state at row 1 of the group, posit"):
        check_finite(states, mask, "here")


def test_a_capture_that_overflows_names_model_and_layer() -> None:
    module = _tiny()
    with torch.no_grad():
        module.gpt_neox.layers[1].mlp.dense_4h_to_h.weight.fill_(3e38)
    model = _wrap(module, tiny_tokenizer(), 1)
    with pytest.raises(NumericError, match=r"model gpt_neox\.layers\.1: non-finite state"):
        model.capture(TokenBatch.pack([[5, 6]], 0))
    model.at_layer(0).capture(TokenBatch.pack([[5, 6]], 0))


# ---------------------------------------------------------------- devices


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == resolve_device("cpu") == torch.device("cpu")
    for device in ("cuda", "cuda:0"):
        with pytest.raises(EnvironmentFault, match=f"device {device}: torch finds no CUDA here"):
            resolve_device(device)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("auto") == torch.device("cuda")
    assert resolve_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(EnvironmentFault, match=r"cuda:2: this machine has 2 CUDA device\(s\)"):
        resolve_device("cuda:2")
