"""Models and translators that do not fit or are damaged, on the command line."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from statebridge.translators import save_translator
from tests.bridge.engine.tiny_experiment import random_translator
from tests.client.refused_command import Command, write_experiment
from tests.tiny_models import VOCAB, save_pair_folder, tiny_gpt2, tiny_neox, tiny_tokenizer

# ---------------------------------------------------------------- models and layers


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (2, "layer 2 of receiver is out of range: it has 2 blocks, 0 to 1 (or -2 to -1)"),
        (-3, "layer -3 of receiver is out of range"),
        (10**30, "is out of range"),
        ("gpt_neox.layers.7", "did you mean gpt_neox.layers.1 or gpt_neox.layers.0?"),
        ("lm_head", "is not a block of receiver"),
    ],
)
def test_layers_out_of_range(layer: Any, words: str, command: Command) -> None:
    write_experiment(receiver={"model": "./receiver", "layer": layer})
    assert words in command.refused(2)


def _config(**changes: Any) -> Callable[[Path], None]:
    def change(model: Path) -> None:
        config = json.loads((model / "config.json").read_text())
        (model / "config.json").write_text(json.dumps({**config, **changes}))

    return change


def _weights(change: Callable[[dict[str, torch.Tensor]], None]) -> Callable[[Path], None]:
    def rewrite(model: Path) -> None:
        tensors = safetensors.torch.load_file(model / "model.safetensors")
        change(tensors)
        safetensors.torch.save_file(tensors, model / "model.safetensors", {"format": "pt"})

    return rewrite


def _cut(model: Path) -> None:
    content = (model / "model.safetensors").read_bytes()
    (model / "model.safetensors").write_bytes(content[: len(content) // 2])


def _without_head(tensors: dict[str, torch.Tensor]) -> None:
    del tensors[next(name for name in tensors if name.startswith(("lm_head", "embed_out")))]


def _without_a_block(tensors: dict[str, torch.Tensor]) -> None:
    for name in [name for name in tensors if "layers.1." in name]:
        del tensors[name]


def _untokenised(model: Path) -> None:
    for path in model.glob("*token*"):
        path.unlink()


BROKEN: dict[str, tuple[Callable[[Path], None], str]] = {
    "no folder": (shutil.rmtree, "no config.json in that folder"),
    "no config": (lambda model: (model / "config.json").unlink(), "no config.json in that folder"),
    "config not JSON": (lambda model: _replace(model / "config.json", b"{"), "not a valid JSON"),
    "config a list": (lambda model: _replace(model / "config.json", b"[]"), "cannot be loaded"),
    "config empty": (lambda model: _replace(model / "config.json", b"{}"), "cannot be loaded"),
    "unknown model type": (_config(model_type="foo"), "cannot be loaded"),
    "not a causal model": (_config(model_type="t5"), "cannot be loaded"),
    "code of its own": (
        _config(model_type="foo", auto_map={"AutoConfig": "a.B", "AutoModelForCausalLM": "a.C"}),
        "cannot be loaded",
    ),
    "depth not a number": (_config(num_hidden_layers="two"), "cannot be loaded"),
    "another width": (_config(hidden_size=48), "belong to different models"),
    "another vocabulary": (_config(vocab_size=500), "belong to different models"),
    "more blocks": (_config(num_hidden_layers=3), "would be random"),
    "no weights": (lambda model: (model / "model.safetensors").unlink(), "cannot be loaded"),
    "weights cut short": (_cut, "cannot be loaded"),
    "weights empty": (lambda model: _replace(model / "model.safetensors", b""), "cannot be loaded"),
    "weights a pickle": (
        lambda model: _replace(model / "model.safetensors", b"\x80\x04N."),
        "cannot be loaded",
    ),
    "no output head": (_weights(_without_head), "would be random"),
    "a block missing": (_weights(_without_a_block), "would be random"),
    "no tokenizer": (_untokenised, "has no tokenizer"),
    "tokenizer not JSON": (lambda model: _replace(model / "tokenizer.json", b"{"), "tokenizer of"),
    "tokenizer empty": (lambda model: _replace(model / "tokenizer.json", b"{}"), "tokenizer of"),
}


def _replace(path: Path, content: bytes) -> None:
    path.write_bytes(content)


@pytest.mark.slow
@pytest.mark.parametrize("how", BROKEN)
def test_broken_model_folders(how: str, command: Command) -> None:
    breaks, words = BROKEN[how]
    breaks(Path("receiver"))
    err = command.refused(2)
    assert words in err
    assert "receiver" in err
    assert "HF_HUB_OFFLINE" not in err, "a folder has nothing to do with the hub"


@pytest.mark.slow
@pytest.mark.parametrize("how", BROKEN)
def test_the_doctor_sees_or_survives_the_same(how: str, command: Command) -> None:
    BROKEN[how][0](Path("receiver"))
    code, out, err = command("doctor", "mine.yaml")
    assert err == ""
    assert "Traceback" not in out
    # What shows only when weights are read is beyond it; it must not fall over them.
    assert code in (0, 1)
    assert all(line.startswith(("ready", "MISSING")) for line in out.splitlines())
    if BROKEN[how][1] in ("no config.json in that folder", "not a valid JSON"):
        assert code == 1


@pytest.mark.parametrize("model", ["EleutherAI/pythia-160m", "nonsense", "a/b/c", "not a name"])
def test_hub_ids_that_cannot_be_had_offline(model: str, command: Command) -> None:
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    write_experiment(receiver={"model": model, "layer": 1})
    err = command.refused(2)
    assert model in err
    assert "HF_HUB_OFFLINE is set, so it must be in the local cache already" in err


def test_a_folder_cannot_be_run_remotely(command: Command) -> None:
    err = command.refused(2, "--remote", "http://127.0.0.1:9")
    assert "sender: a folder here is unknown to the remote back end; give a hub id" in err


def test_weights_and_states_that_are_not_finite(command: Command) -> None:
    def spoil(tensors: dict[str, torch.Tensor]) -> None:
        tensors["gpt_neox.layers.0.mlp.dense_4h_to_h.weight"][0, 0] = float("nan")

    _weights(spoil)(Path("receiver"))
    err = command.refused(4)
    assert "weight gpt_neox.layers.0.mlp.dense_4h_to_h.weight holds NaN or infinity" in err
    assert "receiver" in err


def test_states_that_overflow(command: Command) -> None:
    def swell(tensors: dict[str, torch.Tensor]) -> None:
        tensors["gpt_neox.layers.0.mlp.dense_4h_to_h.weight"].fill_(3e38)

    _weights(swell)(Path("sender"))
    code, _, err = command("run", "mine.yaml", "--out", "out")
    assert code == 4
    assert err.startswith("error: sender gpt_neox.layers.1: non-finite state")
    assert err.count("\n") == 1
    assert not Path("out/rows.jsonl").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
@pytest.mark.parametrize("device", ["cuda", "cuda:0", "cuda:3"])
def test_no_cuda_where_cuda_was_asked_for(device: str, command: Command) -> None:
    err = command.refused(3, "--device", device)
    assert f"device {device}: torch finds no CUDA here; use --device cpu" in err


def test_prompts_beyond_the_context_window(command: Command) -> None:
    model = tiny_gpt2(3, layers=2, hidden=24, heads=2, end_share=0, max_position_embeddings=8)
    save_pair_folder(model, tiny_tokenizer(), Path("receiver"))
    err = command.refused(2)
    assert "row r0: " in err
    assert "context window of receiver (8); lower decoding.max_prompt_tokens" in err


def test_sender_and_receiver_that_tokenise_differently(command: Command) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens([" in Oslo"])
    model = tiny_neox(1, layers=2, hidden=16, heads=2, end_share=0, vocab=VOCAB + 1)
    save_pair_folder(model, tokenizer, Path("sender"))
    err = command.refused(2)
    assert "row r1: sender and receiver tokenise the prompt differently" in err
    assert "source_positions: last" in err


# ---------------------------------------------------------------- translators


class _Evil:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("touch pwned",)


def _checkpoint(**changes: Any) -> dict[str, Any]:
    state = {"net.proj.weight": torch.zeros(24, 16), "net.proj.bias": torch.zeros(24)}
    fields = {"dim_source": 16, "dim_target": 24, "arch": "linear", "hidden_dim": None}
    return {**fields, "normalize": True, "state_dict": state, **changes}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "code", "words"),
    [
        (_checkpoint(dim_source=17), 2, "weight weight has shape (24, 16)"),
        (_checkpoint(arch="conv"), 2, "unknown arch 'conv'"),
        (_checkpoint(state_dict={"net.proj.weight": "text"}), 2, "is a str, not a tensor"),
        (_checkpoint(state_dict=[]), 2, "state_dict is a list"),
        (
            _checkpoint(
                state_dict={
                    "net.proj.weight": torch.full((24, 16), float("nan")),
                    "net.proj.bias": torch.zeros(24),
                }
            ),
            4,
            "holds NaN or infinity",
        ),
        ([1, 2], 2, "holds a list"),
        ({"a": 1}, 2, "it lacks"),
        (_Evil(), 2, "reading it would run code"),
    ],
)
def test_wrong_checkpoints(content: Any, code: int, words: str, command: Command) -> None:
    torch.save(content, "mine.pt")
    write_experiment(translators={42: "mine.pt"})
    err = command.refused(code)
    assert "mine.pt" in err
    assert words in err
    assert not Path("pwned").exists()


@pytest.mark.slow
def test_wrong_translator_files(command: Command, own_pair: Path) -> None:
    write_experiment(translators={42: "nowhere.safetensors"})
    assert "nowhere.safetensors: there is no such file" in command.refused(2)
    write_experiment(translators={42: "sender"})
    assert "sender: is a directory" in command.refused(2)
    Path("text.pt").write_text("not a checkpoint")
    write_experiment(translators={42: "text.pt"})
    assert "text.pt: not a " in command.refused(2)
    write_experiment(translators={42: "sender/model.safetensors"})
    assert "but not a translator" in command.refused(2)
    save_translator(random_translator(24, 16, seed=1), own_pair / "wrong.safetensors")
    write_experiment(translators={42: "wrong.safetensors"})
    err = command.refused(2)
    assert "translator of seed 42 maps width 24 to 16" in err
    assert "needs 16 to 24" in err


@pytest.mark.slow
def test_a_corpus_that_is_wrong(command: Command) -> None:
    fit: dict[str, Any] = {"kind": "ridge", "corpus": {"path": "text.txt"}}
    write_experiment(translators={"fit": fit})
    assert "text.txt: no such file" in command.refused(2)
    Path("text.txt").write_text("")
    assert "text.txt: the corpus holds no passage" in command.refused(2)
    Path("text.txt").write_text("only one passage\n")
    assert "at least 2 are needed" in command.refused(2)
    Path("text.txt").write_text("one\ntwo\n")
    fit["corpus"]["sha256"] = "0" * 64
    write_experiment(translators={"fit": fit})
    assert "not the declared" in command.refused(2)
