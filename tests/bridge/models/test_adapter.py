"""PEFT adapters: the weights are those of PEFT itself, and what does not fit is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from statebridge.errors import EnvironmentFault, PairError
from statebridge.experiment.experiment import ModelAtLayer
from statebridge.models import adapter as adapters
from statebridge.models.loading import load_model
from statebridge.models.weights import weights_sha256
from tests.tiny_models import save_pair_folder, tiny_neox, tiny_tokenizer

peft = pytest.importorskip("peft", reason="PEFT is not installed")

# PEFT asks transformers for an attribute that has another name now.
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, another base, and adapters of the first."""
    folder = tmp_path_factory.mktemp("adapters")
    save_pair_folder(tiny_neox(seed=3, hidden=32, heads=2), tiny_tokenizer(), folder / "base")
    save_pair_folder(tiny_neox(seed=4, hidden=48, heads=2), tiny_tokenizer(), folder / "other")
    lora = peft.LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["query_key_value"])
    _save(lora, folder, "lora")
    _save(peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2), folder, "prompt")
    return folder


def _save(config: Any, folder: Path, name: str) -> None:
    base = AutoModelForCausalLM.from_pretrained(folder / "base")
    adapted = peft.get_peft_model(base, config)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:  # a fresh adapter is no difference
                parameter.normal_(generator=generator)
    adapted.save_pretrained(folder / name)


def _load(folder: Path, model: str, adapter: str | None) -> Any:
    path = None if adapter is None else str(folder / adapter)
    side = ModelAtLayer(model=str(folder / model), layer=0, adapter=path)
    return load_model(side, device="cpu")


def test_the_model_is_the_one_that_peft_adapts(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # However small, a hash is kept for the files of a model, and these are the base's too.
    monkeypatch.setattr("statebridge.models.weights.SMALLEST", 0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    loaded = _load(folder, "base", "lora")
    base = AutoModelForCausalLM.from_pretrained(folder / "base")
    adapted = peft.PeftModel.from_pretrained(base, folder / "lora").eval()
    ids = torch.tensor([[3, 5, 7, 11]])
    with torch.no_grad():
        theirs, ours = adapted(ids).logits, loaded.module(ids).logits
    # The difference is added to the weights once, where PEFT adds it to each product.
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    assert loaded.name == "base + lora"
    assert loaded.cautions == ()
    assert weights_sha256(loaded.module) != weights_sha256(_load(folder, "base", None).module)


@pytest.mark.parametrize(
    ("model", "adapter", "words"),
    [
        ("other", "lora", "lora: does not fit model .*other: .*size mismatch"),
        ("base", "prompt", "is of kind PROMPT_TUNING, which adds tokens"),
        ("base", "base", "no adapter_config.json; give an adapter that PEFT saved"),
    ],
)
def test_an_adapter_that_does_not_fit_is_one_line(
    folder: Path, model: str, adapter: str, words: str
) -> None:
    with pytest.raises(PairError, match=words) as caught:
        _load(folder, model, adapter)
    assert "\n" not in str(caught.value)


def test_a_file_that_may_hold_code_is_not_read(folder: Path, tmp_path: Path) -> None:
    for file in (folder / "lora").iterdir():
        (tmp_path / file.name.replace(".safetensors", ".bin")).write_bytes(file.read_bytes())
    with pytest.raises(PairError, match=r"no adapter_model\.safetensors"):
        adapters.adapter_folder(str(tmp_path))


def test_weights_that_the_file_lacks_are_refused(folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    for file in (folder / "lora").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = load_file(folder / "lora" / adapters.WEIGHTS)
    del weights[sorted(weights)[0]]
    save_file(weights, tmp_path / adapters.WEIGHTS)
    module = AutoModelForCausalLM.from_pretrained(folder / "base")
    with pytest.raises(PairError, match="missing adapter keys"):
        adapters.merge_adapter(module, str(tmp_path), "base")


def test_an_adapter_of_another_base_of_one_shape_is_a_caution(folder: Path) -> None:
    module = AutoModelForCausalLM.from_pretrained(folder / "base")
    (caution,) = adapters.merge_adapter(module, str(folder / "lora"), "hub/namesake")
    assert caution.endswith("base, and is applied to hub/namesake.")


def test_without_peft_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapters, "find_spec", lambda _: None)
    with pytest.raises(EnvironmentFault, match=r"pip install 'statebridge\[peft\]'"):
        adapters.merge_adapter(None, "x/y", "z")
