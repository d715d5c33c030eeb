from __future__ import annotations

import io
import math
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from statebridge.errors import NumericError, TranslatorError
from statebridge.results.translator_card import ImportedRecord
from statebridge.translators.storage import load_translator, save_translator
from tests.bridge.translators.refusal import refused
from tests.bridge.translators.synthetic_states import normal


class PublishedNet(torch.nn.Module):
    """The module that the published state dictionaries come from, by their key names."""

    def __init__(self, arch: str) -> None:
        super().__init__()
        self.net = torch.nn.Module()
        if arch == "linear":
            self.net.proj = torch.nn.Linear(6, 5)
            return
        hidden = {"mlp_1hidden": 1, "mlp_3hidden": 3}[arch]
        layers: list[torch.nn.Module] = [torch.nn.Linear(6, 8)]
        for _ in range(hidden - 1):
            layers += [torch.nn.GELU(), torch.nn.Linear(8, 8)]
        self.net.net = torch.nn.Sequential(*layers, torch.nn.GELU(), torch.nn.Linear(8, 5))

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        inner = self.net.proj if hasattr(self.net, "proj") else self.net.net
        assert isinstance(inner, torch.nn.Module)
        output: torch.Tensor = inner(states)
        return output


ARCHITECTURES = ["linear", "mlp_1hidden", "mlp_3hidden"]


def published(arch: str = "linear", **changes: Any) -> tuple[PublishedNet, dict[str, Any]]:
    net = PublishedNet(arch)
    checkpoint = {
        "dim_source": 6,
        "dim_target": 5,
        "arch": arch,
        "hidden_dim": None if arch == "linear" else 8,
        "normalize": True,
        "state_dict": net.state_dict(),
    }
    return net, {**checkpoint, **changes}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "fwd_seed42.pt"


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("old_format", [True, False])
def test_gives_what_the_published_module_gives(
    path: Path, arch: str, normalize: bool, old_format: bool
) -> None:
    net, checkpoint = published(arch, normalize=normalize)
    names = list(checkpoint["state_dict"])
    assert names[:2] == (
        ["net.proj.weight", "net.proj.bias"]
        if arch == "linear"
        else ["net.net.0.weight", "net.net.0.bias"]
    )
    torch.save(checkpoint, path, _use_new_zipfile_serialization=not old_format)
    translator = load_translator(path)
    states = normal(7, 6)
    inputs = torch.nn.functional.normalize(states, dim=-1) if normalize else states
    with torch.no_grad():
        expected = net(inputs)
    torch.testing.assert_close(translator(states), expected)
    assert translator.kind == ("affine" if arch == "linear" else arch)
    assert translator.normalize_input is normalize


def test_becomes_a_safetensors_file(path: Path) -> None:
    _, checkpoint = published("mlp_3hidden", seed=42, metrics="none", r2=0.88, log=[1, 2])
    torch.save(checkpoint, path)
    translator = load_translator(path)
    copy = path.with_suffix(".safetensors")
    save_translator(translator, copy)
    loaded = load_translator(copy)
    assert torch.equal(loaded(normal(3, 6)), translator(normal(3, 6)))
    assert loaded.card is not None
    record = loaded.card.training
    assert isinstance(record, ImportedRecord)
    assert record.file_name == "fwd_seed42.pt"
    assert record.fields["seed"] == 42
    assert record.fields["r2"] == 0.88
    assert "log" not in record.fields


def test_told_by_content_and_not_by_name(path: Path) -> None:
    torch.save(published()[1], path)
    assert load_translator(path.rename(path.with_suffix(".safetensors"))).width_in == 6


def test_other_dtypes_become_float32(path: Path) -> None:
    for dtype in (torch.float64, torch.float16, torch.bfloat16):
        net, checkpoint = published()
        checkpoint["state_dict"] = {
            name: tensor.to(dtype) for name, tensor in net.state_dict().items()
        }
        torch.save(checkpoint, path)
        translator = load_translator(path)
        assert translator.dtype == torch.float32
        expected = net.state_dict()["net.proj.weight"].to(dtype).float()
        assert torch.equal(translator.weights()["weight"], expected)


class Payload:
    """Runs code when it is unpickled the ordinary way."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return Path.touch, (self.marker,)


@pytest.mark.parametrize("form", ["zip", "old", "pickle"])
@pytest.mark.parametrize("place", ["whole", "field", "state_dict"])
def test_code_is_refused_and_not_run(path: Path, form: str, place: str) -> None:
    marker = path.with_name("ran")
    payload = Payload(marker)
    content: Any = payload
    if place == "field":
        content = published(extra=payload)[1]
    elif place == "state_dict":
        content = published(state_dict={"net.proj.weight": payload})[1]
    if form == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    with refused(TranslatorError, "fwd_seed42.pt", "refused"):
        load_translator(path)
    assert not marker.exists()
    # The trap is real: ordinary unpickling springs it.
    if form == "zip":
        torch.load(path, weights_only=False)
        assert marker.exists()


def test_numpy_numbers_need_code_too(path: Path) -> None:
    torch.save(published(r2=np.float64(0.5), history=np.ones(3))[1], path)
    with refused(TranslatorError, "refused", "save it again"):
        load_translator(path)


@pytest.mark.parametrize("old_format", [True, False])
def test_cut_short_anywhere(path: Path, old_format: bool) -> None:
    torch.save(published()[1], path, _use_new_zipfile_serialization=not old_format)
    content = path.read_bytes()
    for length in [0, 1, 3, 4, 8, 60, *range(100, len(content), 150), len(content) - 1]:
        path.write_bytes(content[:length])
        with refused(TranslatorError, "fwd_seed42.pt"):
            load_translator(path)


def test_zip_of_something_else(path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("hello.txt", "hello")
    path.write_bytes(buffer.getvalue())
    with refused(TranslatorError, "fwd_seed42.pt"):
        load_translator(path)
    path.write_text("hello")
    with refused(TranslatorError, "fwd_seed42.pt"):
        load_translator(path)


NAN = OrderedDict({"net.proj.weight": torch.full((5, 6), math.nan), "net.proj.bias": torch.ones(5)})


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"arch": "mlp_2hidden"}, TranslatorError, ["'mlp_2hidden'", "mlp_1hidden"]),
        ({"arch": ["linear"]}, TranslatorError, ["arch", "linear"]),
        ({"dim_source": 7}, TranslatorError, ["weight", "(5, 6)", "(5, 7)"]),
        ({"dim_target": "5"}, TranslatorError, ["dim_target", "'5'"]),
        ({"dim_source": 0}, TranslatorError, ["dim_source", "above 0"]),
        ({"dim_source": True}, TranslatorError, ["dim_source", "True"]),
        ({"arch": "mlp_1hidden"}, TranslatorError, ["hidden_dim", "None"]),
        (
            {"arch": "mlp_1hidden", "hidden_dim": 8},
            TranslatorError,
            ["net.proj.weight", "net.net."],
        ),
        ({"normalize": 1}, TranslatorError, ["normalize", "true or false"]),
        ({"state_dict": torch.ones(2)}, TranslatorError, ["state_dict", "Tensor"]),
        ({"state_dict": {"net.proj.weight": 1.0}}, TranslatorError, ["float", "not a tensor"]),
        ({"state_dict": {}}, TranslatorError, ["missing ['bias', 'weight']"]),
        ({"state_dict": NAN}, NumericError, ["weight", "NaN"]),
    ],
)
def test_unfit_fields(
    path: Path, changes: dict[str, Any], error: type[TranslatorError], words: list[str]
) -> None:
    torch.save({**published()[1], **changes}, path)
    with refused(error, "fwd_seed42.pt", *words):
        load_translator(path)


def test_missing_fields_and_other_contents(path: Path) -> None:
    checkpoint = published()[1]
    del checkpoint["normalize"]
    torch.save(checkpoint, path)
    with refused(TranslatorError, "lacks ['normalize']"):
        load_translator(path)
    torch.save(torch.ones(3), path)
    with refused(TranslatorError, "holds a Tensor", "dim_source"):
        load_translator(path)
