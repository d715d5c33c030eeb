"""Weights of FP8: declared, recorded, and refused where nothing multiplies them.

No GPU is asked: the product is emulated on the CPU, from the scales that the layers hold.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
from transformers.integrations import finegrained_fp8
from transformers.quantizers.quantizer_finegrained_fp8 import FineGrainedFP8HfQuantizer

from statebridge.engine.doctor.readiness import check_readiness
from statebridge.engine.run_experiment import run_experiment
from statebridge.errors import EnvironmentFault, ExperimentError, PairError
from statebridge.experiment import parse_experiment
from statebridge.experiment.experiment import Experiment
from statebridge.models import loading, quantized
from statebridge.models.pair import load_pair
from statebridge.results.run_results import read_run
from tests.tiny_models import save_pair_folder, tiny_llama, tiny_neox, tiny_tokenizer

FP8 = {"bits": 8, "by": "fp8"}
BLOCK = 128


def _product(
    states: torch.Tensor, weight: torch.Tensor, scales: torch.Tensor, *_: Any
) -> torch.Tensor:
    """The product of FP8: a scale for each block of weights and each 128 entries of a token."""
    whole = scales.repeat_interleave(BLOCK, 0).repeat_interleave(BLOCK, 1) * weight.float()
    blocks = states.float().unflatten(-1, (-1, BLOCK))
    most = blocks.abs().amax(-1, keepdim=True).clamp_min(1e-12) / 448
    rounded = (blocks / most).to(torch.float8_e4m3fn).float() * most
    return (rounded.flatten(-2) @ whole.T).to(states.dtype)


@pytest.fixture
def emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that has what FP8 needs."""
    monkeypatch.setattr(finegrained_fp8, "fp8_linear", _product)
    monkeypatch.setattr(FineGrainedFP8HfQuantizer, "validate_environment", lambda *_, **__: None)
    monkeypatch.setattr(quantized, "is_kernels_available", lambda: True)
    for module in (loading, quantized):
        monkeypatch.setattr(module, "check_hardware", lambda *_: None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    llama = tiny_llama(seed=3, layers=2, hidden=BLOCK, heads=2, kv_heads=2, intermediate_size=256)
    save_pair_folder(llama.to(torch.bfloat16), tiny_tokenizer(), folder / "whole")
    save_pair_folder(tiny_neox(seed=3, hidden=32, heads=2), tiny_tokenizer(), folder / "narrow")
    return folder


def _experiment(
    folder: Path, weights: Any = FP8, model: str = "whole", **fields: Any
) -> Experiment:
    side = {"model": str(folder / model), "layer": 1}
    declared = {
        "name": "fp8",
        "sender": side | ({} if weights is None else {"weights": weights}),
        "receiver": side | ({} if weights is None else {"weights": weights}),
        "dataset": {"generate": {"rows": 1, "seed": 3}},
        "conditions": ["no_inject", "b_to_b_self_inject"],
        "dtype": "bfloat16",
        "decoding": {"max_new_tokens": 2, "max_prompt_tokens": 400},
        "execution": {"device": "cpu"},
    }
    return parse_experiment(json.dumps(declared | fields))


def test_fp8_is_refused_before_weights_are_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = "need a GPU of compute capability 8.9 or later (Ada, Hopper), not cpu; run it on one"
    monkeypatch.setattr(quantized, "is_kernels_available", lambda: True)
    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", pytest.fail)
    with pytest.raises(EnvironmentFault) as refused:
        load_pair(_experiment(folder))
    assert words in str(refused.value)
    found = {check.what: check for check in check_readiness(_experiment(folder))}
    assert not found["device"].ready
    assert words in found["device"].detail
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 0))
    with pytest.raises(EnvironmentFault, match=r"not cuda:0 of capability 8\.0; run it on one"):
        quantized.check_hardware(_experiment(folder).sender.weights, torch.device("cuda:0"), "m")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    quantized.check_hardware(_experiment(folder).sender.weights, torch.device("cuda:0"), "m")


def test_what_fp8_needs_is_asked_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantized, "is_kernels_available", lambda: False)
    with pytest.raises(EnvironmentFault, match="need accelerate, and kernels in a version that"):
        load_pair(_experiment(folder))


@pytest.mark.parametrize(
    ("weights", "more", "words"),
    [
        ({"bits": 4, "by": "fp8"}, {}, "by: fp8 goes with bits: 8"),
        (FP8, {"dtype": "float32"}, "write dtype: bfloat16 or float16, not float32"),
        (
            {"bits": 4},
            {"execution": {"device_map": {"": "cpu"}}},
            "weights of few bits are made on one device; leave execution.device_map out",
        ),
    ],
)
def test_fp8_that_cannot_be_declared_is_one_line(
    weights: Any, more: dict[str, Any], words: str, folder: Path
) -> None:
    with pytest.raises(ExperimentError, match=words) as refused:
        _experiment(folder, weights, **more)
    assert "\n" not in str(refused.value)


@pytest.mark.slow
@pytest.mark.usefixtures("emulated")
def test_fp8_weights_are_made_and_recorded(folder: Path, tmp_path: Path) -> None:
    found = {}
    for path in ("shared", "plain"):
        experiment = _experiment(folder, execution={"device": "cpu", "path": path})
        run_experiment(experiment, tmp_path / path)
        found[path] = {
            (cell.condition.name, row.row_id): asdict(row)["token_ids"]
            for cell in read_run(tmp_path / path).cells
            for row in cell.lanes
        }
    assert found["shared"] == found["plain"]
    manifest = json.loads((tmp_path / "plain" / "manifest.json").read_text())
    assert manifest["experiment"]["receiver"]["weights"] == FP8
    assert any("weights of few bits (fp8)" in caution for caution in manifest["cautions"])
    pair = load_pair(_experiment(folder))
    kept = sum(part.numel() * part.element_size() for part in pair.sender.module.parameters())
    whole = load_pair(_experiment(folder, None)).sender.module
    scales = sum(p.numel() for n, p in pair.sender.module.named_parameters() if "scale" in n)
    expected = quantized.weight_bytes(whole, pair.sender.source.weights, 2)  # type: ignore[union-attr]
    assert kept == expected + 4 * scales


@pytest.mark.usefixtures("emulated")
def test_a_published_checkpoint_of_fp8_is_declared(folder: Path) -> None:
    published = folder / "published"
    made = load_pair(_experiment(folder)).sender
    save_pair_folder(made.module, tiny_tokenizer(), published)
    with pytest.raises(PairError, match=r"has weights of FP8; declare them, with weights: \{bits"):
        load_pair(_experiment(folder, None, "published"))
    with pytest.raises(PairError, match=r"quantized already \(fp8, by its config\.json\)"):
        load_pair(_experiment(folder, {"bits": 8}, "published"))
    read = load_pair(_experiment(folder, FP8, "published")).sender
    batch = made.pack([[3, 5, 7, 11], [9, 8]])
    assert torch.equal(made.next_logits(batch), read.next_logits(batch))


@pytest.mark.usefixtures("emulated")
def test_a_matrix_that_would_stay_whole_is_refused(folder: Path) -> None:
    with pytest.raises(PairError, match=r"attention\.dense\.weight has a side that is no multiple"):
        load_pair(_experiment(folder, FP8, "narrow"))


def test_weights_that_were_made_whole_are_a_caution() -> None:
    module = torch.nn.Linear(2, 2)
    config = SimpleNamespace(quantization_config={"quant_method": "mxfp4"})
    (caution,) = quantized.few_bits_cautions(module, config, "m")
    assert "(mxfp4) were made whole" in caution
    assert quantized.few_bits_cautions(module, SimpleNamespace(), "m") == []
    module.is_quantized, module.quantization_method = True, "fp8"  # type: ignore[assignment]
    with pytest.raises(PairError, match="m: has no linear layers, which FP8 takes"):
        quantized.few_bits_cautions(module, SimpleNamespace(), "m")
