from __future__ import annotations

import json
import math
import struct
from importlib.metadata import version
from pathlib import Path

import pytest
import safetensors.torch
import torch

from statebridge.errors import EnvironmentFault, NumericError, TranslatorError
from statebridge.experiment.translator_settings import (
    CausalSettings,
    TrainingSettings,
)
from statebridge.results.translator_card import (
    CausalRecord,
    CorpusRecord,
    ImportedRecord,
    ProcrustesRecord,
    RidgeRecord,
    StateOrigin,
    TranslatorCard,
)
from statebridge.translators.closed_form.procrustes import fit_procrustes
from statebridge.translators.closed_form.ridge import fit_ridge
from statebridge.translators.modules.maps import initialise
from statebridge.translators.position_store import PositionStore
from statebridge.translators.quality import measure_quality
from statebridge.translators.storage import load_translator, make_card, save_translator
from statebridge.translators.training import train_translator
from statebridge.translators.translator import Translator
from tests.bridge.translators.refusal import refused
from tests.bridge.translators.synthetic_states import OF_STATES, linear_pair, normal

SENDER = StateOrigin(model="sender-model", revision="main", layer="gpt_neox.layers.8", width=6)
RECEIVER = StateOrigin(model="receiver-model", layer="gpt_neox.layers.16", width=5)
CORPUS = CorpusRecord(name="text.txt", sha256="0" * 64, passages=3, max_tokens=256)


def initialised(kind: str = "affine", *, normalize_input: bool = True) -> Translator:
    options = {"low_rank": {"rank": 4}, "affine": {}, "gated": {}}.get(kind, {"hidden_dim": 4})
    translator = Translator(kind, 6, 5, options=options, normalize_input=normalize_input)
    initialise(translator, torch.Generator().manual_seed(0))
    return translator


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    path = tmp_path / "fwd_seed42.safetensors"
    translator = initialised()
    save_translator(
        translator, path, make_card(translator, sender=SENDER, receiver=RECEIVER, corpus=CORPUS)
    )
    return path


@pytest.mark.parametrize("kind", OF_STATES)
@pytest.mark.parametrize("normalize", [True, False])
def test_round_trip(tmp_path: Path, kind: str, normalize: bool) -> None:
    translator = initialised(kind, normalize_input=normalize)
    path = tmp_path / "deep" / "er" / "t.safetensors"
    card = save_translator(translator, path)
    loaded = load_translator(path)
    assert loaded.card == card == translator.card
    assert torch.equal(loaded(normal(3, 6)), translator(normal(3, 6)))
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert sorted(file.name for file in path.parent.iterdir()) == ["t.json", "t.safetensors"]


def test_card_of_a_trained_translator(tmp_path: Path) -> None:
    with PositionStore.from_batches([linear_pair(60)]) as store:
        settings = TrainingSettings(epochs=2, warmup_steps=1)
        fit = train_translator(store, settings, seed=7)
        quality = measure_quality(fit.translator, store.batches(start=54), fit.means)
    card = make_card(
        fit.translator,
        sender=SENDER,
        receiver=RECEIVER,
        corpus=CORPUS,
        training=fit.record,
        quality=(quality,),
    )
    path = tmp_path / "t.safetensors"
    save_translator(fit.translator, path, card)
    loaded = load_translator(path).card
    assert loaded is not None
    assert loaded.training == fit.record
    assert loaded.quality == (quality,)
    assert (loaded.sender, loaded.receiver, loaded.corpus) == (SENDER, RECEIVER, CORPUS)
    assert loaded.versions["torch"] == version("torch")
    assert {"python", "statebridge", "torch", "safetensors"} <= loaded.versions.keys()
    on_disk = json.loads(path.with_suffix(".json").read_text())
    assert on_disk["training"]["seed"] == 7
    assert on_disk["created_at"].endswith("+00:00")


def test_card_of_a_ridge_fit(tmp_path: Path) -> None:
    fit = fit_ridge([linear_pair(60)])
    path = tmp_path / "t.safetensors"
    save_translator(fit.translator, path, make_card(fit.translator, training=fit.record))
    loaded = load_translator(path).card
    assert loaded is not None
    assert isinstance(loaded.training, RidgeRecord)
    assert loaded.training == fit.record


def test_card_of_a_procrustes_fit(tmp_path: Path) -> None:
    fit = fit_procrustes([linear_pair(60)])
    path = tmp_path / "t.safetensors"
    save_translator(fit.translator, path, make_card(fit.translator, training=fit.record))
    loaded = load_translator(path)
    assert loaded.card is not None
    assert loaded.kind == "affine"
    assert isinstance(loaded.card.training, ProcrustesRecord)
    assert loaded.card.training == fit.record
    assert torch.equal(loaded(normal(3, 6)), fit.translator(normal(3, 6)))


def test_card_of_a_translator_trained_through_the_receiver(tmp_path: Path) -> None:
    start = {"epoch": 0, "training_loss": None, "learning_rate": None}
    losses = {"validation_loss": 3.0, "validation_gold": 2.0, "validation_divergence": 1.0}
    record = CausalRecord.model_validate(
        {
            "settings": CausalSettings(gold_weight=0.5),
            "seed": 7,
            "condition": {"name": "private_last", "positions": "last"},
            "dataset": "rows.jsonl",
            "dataset_sha256": "0" * 64,
            "rows_sha256": "1" * 64,
            "training_rows": 90,
            "validation_rows": 10,
            "evaluated_rows_left_out": 2,
            "repeated_rows_left_out": 0,
            "start_scale": 12.5,
            "steps": 60,
            "device": "cpu",
            "seconds": 1.5,
            "epochs": [{**start, **losses}],
            "best_epoch": 0,
        }
    )
    translator = initialised("gated")
    path = tmp_path / "t.safetensors"
    save_translator(translator, path, make_card(translator, causal=record))
    loaded = load_translator(path).card
    assert loaded is not None
    assert loaded.causal == record
    # The weights' file alone does not carry how they came about.
    path.with_suffix(".json").unlink()
    alone = load_translator(path).card
    assert alone is not None
    assert alone.causal is None


def test_file_loads_alone(stored: Path) -> None:
    stored.with_suffix(".json").unlink()
    moved = stored.rename(stored.with_name("renamed.safetensors"))
    loaded = load_translator(moved)
    assert loaded.card is not None
    assert (loaded.card.sender, loaded.card.receiver, loaded.card.corpus) == (
        SENDER,
        RECEIVER,
        CORPUS,
    )
    assert loaded.card.created_at is None
    assert torch.equal(loaded(normal(3, 6)), initialised()(normal(3, 6)))


def test_told_by_content_and_not_by_name(stored: Path) -> None:
    stored.with_suffix(".json").unlink()
    for name in ("weights", "weights.pt"):
        assert load_translator(stored.rename(stored.with_name(name))).width_in == 6
        stored = stored.with_name(name)


def test_same_weights_same_bytes(tmp_path: Path) -> None:
    first, second = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    for path, when in ((first, "2026-01-01T00:00:00+00:00"), (second, "2026-02-02T00:00:00+00:00")):
        translator = initialised("mlp_3hidden")
        card = make_card(translator, sender=SENDER).model_copy(update={"created_at": when})
        save_translator(translator, path, card)
    assert first.read_bytes() == second.read_bytes()


def test_dtype_and_device(stored: Path) -> None:
    loaded = load_translator(stored, dtype=torch.float64, device="cpu")
    assert loaded.dtype == torch.float64
    assert load_translator(stored).dtype == torch.float32


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with refused(TranslatorError, "missing.safetensors", "no such file"):
        load_translator(tmp_path / "missing.safetensors")
    with refused(TranslatorError, "directory"):
        load_translator(tmp_path)


def test_cut_short_anywhere(stored: Path) -> None:
    content = stored.read_bytes()
    stored.with_suffix(".json").unlink()
    for length in [*range(12), len(content) // 4, len(content) // 2, len(content) - 1]:
        stored.write_bytes(content[:length])
        with refused(TranslatorError, stored.name):
            load_translator(stored)
    stored.write_bytes(content + b"x")
    with refused(TranslatorError, stored.name):
        load_translator(stored)


def test_not_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    for content in (
        b"",
        b"hello, this is a text\n",
        b"\x00" * 64,
        struct.pack("<Q", 2**60) + b"{}",
    ):
        path.write_bytes(content)
        with refused(TranslatorError, "t.safetensors", "neither"):
            load_translator(path)


def test_somebody_elses_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    safetensors.torch.save_file({"weight": torch.ones(2)}, path)
    with refused(TranslatorError, "not a translator", "metadata"):
        load_translator(path)


def write_with(path: Path, tensors: dict[str, torch.Tensor], **changes: object) -> None:
    essentials = {
        "format": "statebridge.translator.v1",
        "kind": "affine",
        "width_in": 6,
        "width_out": 5,
        "options": {},
        "normalize_input": True,
        **changes,
    }
    safetensors.torch.save_file(tensors, path, {"statebridge": json.dumps(essentials)})


def test_weights_that_do_not_fit_the_metadata(tmp_path: Path) -> None:
    path, good = tmp_path / "t.safetensors", initialised().weights()
    write_with(path, good)
    assert load_translator(path).width_out == 5
    for tensors, error, words in (
        ({**good, "bias": torch.ones(4)}, TranslatorError, ["bias", "(4,)", "(5,)"]),
        ({"weight": good["weight"]}, TranslatorError, ["missing ['bias']"]),
        ({**good, "other": torch.ones(1)}, TranslatorError, ["surplus ['other']"]),
        ({**good, "bias": torch.full((5,), math.nan)}, NumericError, ["bias", "NaN"]),
    ):
        write_with(path, tensors)
        with refused(error, "t.safetensors", *words):
            load_translator(path)


def test_metadata_that_is_not_a_card(tmp_path: Path) -> None:
    path, good = tmp_path / "t.safetensors", initialised().weights()
    for changes, words in (
        ({"width_in": 0}, ["width_in"]),
        ({"kind": "affin"}, ["kind", "affine"]),
        ({"format": "statebridge.translator.v9"}, ["format", "statebridge.translator.v1"]),
        ({"options": {"hidden_dim": 3}}, ["no option"]),
    ):
        write_with(path, good, **changes)
        with refused(TranslatorError, *words):
            load_translator(path)
    safetensors.torch.save_file(good, path, {"statebridge": "no JSON"})
    with refused(TranslatorError, "t.safetensors, metadata", "JSON"):
        load_translator(path)


def test_card_of_other_weights_is_refused(stored: Path) -> None:
    kept = stored.with_suffix(".json").read_text()
    other = initialised()
    with torch.no_grad():
        next(other.parameters()).add_(1)
    save_translator(other, stored)
    assert load_translator(stored).card == other.card
    stored.with_suffix(".json").write_text(kept)
    with refused(TranslatorError, "fwd_seed42.json", "SHA-256"):
        load_translator(stored)


def test_unreadable_cards(stored: Path) -> None:
    beside = stored.with_suffix(".json")
    card = json.loads(beside.read_text())
    for content, words in (
        ("{", ["JSON"]),
        (json.dumps({**card, "kind": None}), ["kind"]),
        (json.dumps({**card, "surprise": 1}), ["surprise"]),
        (json.dumps({**card, "width_out": 7}), ["width"]),
    ):
        beside.write_text(content)
        with refused(TranslatorError, "fwd_seed42.json", *words):
            load_translator(stored)
    beside.write_bytes(b"\xff\xfe")
    with refused(TranslatorError, "fwd_seed42.json", "cannot be read"):
        load_translator(stored)


def test_saving_refuses_what_could_not_be_loaded(tmp_path: Path) -> None:
    translator = initialised()
    with refused(TranslatorError, "t.pt", ".safetensors"):
        save_translator(translator, tmp_path / "t.pt")
    with refused(TranslatorError, "card describes"):
        save_translator(
            translator, tmp_path / "t.safetensors", make_card(initialised("mlp_1hidden"))
        )
    with refused(TranslatorError, "sender", "other-model", "width 7", "width 6"):
        make_card(translator, sender=StateOrigin(model="other-model", layer="h.0", width=7))
    with torch.no_grad():
        next(translator.parameters())[0, 0] = math.inf
    with refused(NumericError, "t.safetensors", "infinity"):
        save_translator(translator, tmp_path / "t.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with refused(EnvironmentFault, "t.safetensors"):
        save_translator(initialised(), tmp_path / "file" / "t.safetensors")


def test_failed_write_leaves_no_card_of_other_weights(
    stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash between the two files leaves the old or the new weights, never with a wrong card."""
    before = load_translator(stored)

    def crash(self: Path, target: Path) -> Path:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", crash)
        with pytest.raises(KeyboardInterrupt):
            save_translator(initialised(normalize_input=False), stored)
    after = load_translator(stored)
    assert after.normalize_input is before.normalize_input is True
    assert [file.name for file in stored.parent.iterdir()] == [stored.name]


def test_card_knows_its_records_by_their_method() -> None:
    imported = ImportedRecord(file_name="a.pt", sha256="0" * 64, fields={"r2": 0.5})
    card = TranslatorCard(
        kind="affine", width_in=1, width_out=1, normalize_input=True, training=imported
    )
    assert TranslatorCard.model_validate_json(card.model_dump_json()).training == imported
