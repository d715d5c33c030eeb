"""A run is what its experiment declares: the pair, its layers, and the translators made for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from statebridge.engine.run_experiment import run_experiment
from statebridge.errors import PairError, ResultError, TranslatorError
from statebridge.experiment import parse_experiment
from statebridge.models.pair import Pair
from statebridge.results.run_results import read_run
from statebridge.results.translator_card import StateOrigin
from statebridge.runs.directory import read_manifest
from statebridge.translators import make_card, save_translator
from tests.bridge.engine.reuse_runs import tiny_pair
from tests.bridge.engine.tiny_experiment import random_translator

PAIR = tiny_pair()
FIELDS: dict[str, Any] = {
    "name": "tiny",
    "sender": {"model": "tiny-sender", "layer": 0},
    "receiver": {"model": "tiny-receiver", "layer": 0},
    "dataset": {"generate": {"rows": 4, "seed": 4}},
    "conditions": ["no_inject", "zero_replacement"],
    "decoding": {"max_new_tokens": 2, "max_prompt_tokens": 400},
}


def _run(out: Path, pair: Pair = PAIR, **changes: Any) -> dict[str, Any]:
    run_experiment(parse_experiment(json.dumps(FIELDS | changes)), out, pair=pair)
    return read_manifest(out) or {}


def test_a_loaded_pair_is_used_at_the_declared_layers(tmp_path: Path) -> None:
    """A notebook loads a pair once and loops over layers."""
    found = {}
    for layer in (0, 1):
        side = {"model": "tiny-receiver", "layer": layer}
        manifest = _run(tmp_path / str(layer), receiver=side)
        assert manifest["pair"]["receiver"]["layer"] == layer
        results = read_run(tmp_path / str(layer))
        cell = results.cell("zero_replacement")
        assert cell is not None
        found[layer] = [lane.gold_logprob for lane in cell.lanes]
    assert found[0] != found[1]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"sender": FIELDS["receiver"], "receiver": FIELDS["sender"]},
            "sender: the loaded pair has model tiny-sender, the experiment declares tiny-receiver",
        ),
        (
            {"receiver": {"model": "./folder/other", "layer": 0}},
            "receiver: the loaded pair has model tiny-receiver, the experiment declares ./folder",
        ),
        (
            {"sender": {"model": "tiny-sender", "layer": 0, "revision": "step9"}},
            "sender: the loaded pair has revision None, the experiment declares step9",
        ),
        ({"dtype": "float64"}, "sender: the loaded pair has dtype float32, the experiment decl"),
        ({"sender": {"model": "tiny-sender", "layer": 9}}, "sender.layer: layer 9 of tiny-sender"),
    ],
)
def test_another_pair_than_the_declared_one_is_refused(
    changes: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(PairError) as caught:
        _run(tmp_path / "run", **changes)
    assert str(caught.value).startswith(words)
    assert not (tmp_path / "run").exists()


def _origin(model: str, layer: int, width: int, revision: str | None = None) -> StateOrigin:
    path = f"gpt_neox.layers.{layer}"
    return StateOrigin(model=model, revision=revision, layer=path, width=width)


SENDER, RECEIVER = _origin("tiny-sender", 0, 16), _origin("tiny-receiver", 0, 24)


def _with_card(path: Path, sender: StateOrigin | None, receiver: StateOrigin | None) -> Path:
    translator = random_translator(16, 24, seed=42)
    save_translator(translator, path, make_card(translator, sender=sender, receiver=receiver))
    return path


@pytest.mark.parametrize(
    ("sender", "receiver", "words"),
    [
        (_origin("tiny-sender", 1, 16), RECEIVER, "sender tiny-sender, gpt_neox.layers.1, and"),
        (SENDER, _origin("tiny-receiver", 1, 24), "receiver tiny-receiver, gpt_neox.layers.1, and"),
        (_origin("other", 0, 16), RECEIVER, "sender other, gpt_neox.layers.0, and the exp"),
        (
            # The other direction, of two models of one width.
            _origin("tiny-receiver", 0, 16),
            _origin("tiny-sender", 0, 24),
            "sender tiny-receiver, gpt_neox.layers.0, and the experiment's is tiny-sender",
        ),
    ],
)
def test_a_translator_of_another_origin_is_refused(
    sender: StateOrigin, receiver: StateOrigin, words: str, tmp_path: Path
) -> None:
    file = _with_card(tmp_path / "seed1.safetensors", sender, receiver)
    fields = {"conditions": ["no_inject", "replace"], "seeds": [1], "translators": {1: str(file)}}
    with pytest.raises(TranslatorError) as caught:
        _run(tmp_path / "run", **fields)
    assert str(caught.value).startswith(f"translator {file.name}: its card states that it was")
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("sender", "receiver"),
    [(SENDER, RECEIVER), (_origin("owner/tiny-sender", 0, 16), None), (None, None)],
)
def test_a_translator_of_this_pair_is_taken(
    sender: StateOrigin | None, receiver: StateOrigin | None, tmp_path: Path
) -> None:
    file = _with_card(tmp_path / "seed1.safetensors", sender, receiver)
    fields = {"conditions": ["no_inject", "replace"], "seeds": [1], "translators": {1: str(file)}}
    assert _run(tmp_path / "run", **fields)["translators"]["1"]["file"] == file.name


def test_prompts_are_a_part_of_what_a_run_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They follow from inputs that nothing else states, such as the day of a chat template."""
    first = _run(tmp_path / "first")["prompts"]
    assert set(first) == {"receiver"}
    assert _run(tmp_path / "again")["prompts"] == first
    monkeypatch.setattr(
        "statebridge.channels.inputs.token_ids.fill",
        lambda template, rows, written=None: ["a"] * len(rows),
    )
    monkeypatch.setattr(
        "statebridge.channels.inputs.prompt_limit.fill",
        lambda template, rows, written=None: ["Today: A:"] * len(rows),
    )
    assert _run(tmp_path / "other")["prompts"] != first


def test_the_settings_of_a_model_are_a_part_of_what_a_run_is(tmp_path: Path) -> None:
    """The same weights with another config.json compute something else."""
    _run(tmp_path)
    config = PAIR.receiver.module.config
    before = config.layer_norm_eps
    config.layer_norm_eps = 1e-3
    try:
        with pytest.raises(ResultError, match=r"started with another configurations\.receiver"):
            _run(tmp_path)
    finally:
        config.layer_norm_eps = before
    _run(tmp_path)
