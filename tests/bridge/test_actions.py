"""`statebridge.fit`, `doctor` and `capture`, as a notebook calls them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch
import transformers

import statebridge
from statebridge.errors import (
    DatasetError,
    EnvironmentFault,
    ExperimentError,
    InputError,
    PairError,
    TranslatorError,
)
from statebridge.experiment.dataset import TASKS, GeneratedRows
from statebridge.experiment.translator_settings import KINDS, TranslatorKind
from statebridge.records import DatasetRow
from statebridge.tasks.declared_rows import generated_rows
from tests.tiny_models import save_pair_folder, tiny_neox, tiny_tokenizer

PROMPTS = ("Bob works in Lima.", "Oslo is in Norway and Zara lives in Oslo.", "Lima")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny sender and receiver."""
    made = tmp_path_factory.mktemp("pair")
    for name, seed, layers in (("sender", 1, 2), ("receiver", 2, 3)):
        model = tiny_neox(seed=seed, layers=layers, hidden=16, heads=2)
        save_pair_folder(model, tiny_tokenizer(), made / name)
    return made


def experiment(folder: Path, **changes: Any) -> dict[str, Any]:
    return {
        "name": "tiny",
        "sender": {"model": str(folder / "sender"), "layer": 1},
        "receiver": {"model": str(folder / "receiver"), "layer": 1},
        "dataset": {"generate": {"rows": 4, "seed": 3}},
        "translators": {"fit": {"kind": "ridge", "corpus": {"generate": {"rows": 20, "seed": 9}}}},
        "conditions": ["no_inject", "replace"],
        "seeds": [7],
        "execution": {"device": "cpu"},
    } | changes


def test_fit_returns_translators_and_writes_them(folder: Path, tmp_path: Path) -> None:
    made = statebridge.fit(experiment(folder), tmp_path, {"seeds": [7, 8]}, progress=False)
    assert list(made) == ["7", "8"]
    card = made["7"].card
    assert card is not None
    assert card.quality
    stored = statebridge.load_translator(tmp_path / "seed7.safetensors")
    assert torch.equal(stored.weights()["weight"], made["7"].weights()["weight"])


def test_fit_refuses_what_it_cannot_do(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match="declares files, not fit"):
        statebridge.fit(experiment(folder, translators=None, conditions=["no_inject"]), tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(ExperimentError, match="is a file; give a folder"):
        statebridge.fit(experiment(folder), tmp_path / "file")


def test_doctor_yields_one_check_after_another(folder: Path) -> None:
    checks = {check.what: check.ready for check in statebridge.doctor(experiment(folder))}
    assert checks["sender"]
    assert checks["layers"]
    missing = experiment(folder, sender={"model": str(folder / "none"), "layer": 1})
    assert not all(check.ready for check in statebridge.doctor(missing))


def test_captured_states_and_caches_are_the_models_own(folder: Path) -> None:
    captured = statebridge.capture(str(folder / "receiver"), PROMPTS, [0, 1], cache=True)
    assert captured.layers == (0, 1)
    assert captured.keys is not None
    assert captured.values is not None
    model = transformers.AutoModelForCausalLM.from_pretrained(folder / "receiver").eval()
    for number, ids in enumerate(captured.token_ids):
        with torch.no_grad():
            own = model(torch.tensor([ids]), use_cache=True, output_hidden_states=True)
        assert captured.states[number].shape == (2, len(ids), 16)
        assert captured.keys[number].shape == (2, 2, len(ids), 8)
        for place, layer in enumerate(captured.layers):
            entry = own.past_key_values.layers[layer]
            for found, expected in (
                (captured.states[number][place], own.hidden_states[layer + 1][0]),
                (captured.keys[number][place], entry.keys[0]),
                (captured.values[number][place], entry.values[0]),
            ):
                np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-5)


def test_captured_layers_keep_the_order_they_are_asked_in(folder: Path) -> None:
    there = statebridge.capture(folder / "receiver", PROMPTS, [0, 2], cache=True)
    back = statebridge.capture(folder / "receiver", PROMPTS, [2, 0, -1], cache=True)
    assert back.layers == (2, 0, 2)
    for kind in ("states", "keys", "values"):
        for forth, found in zip(getattr(there, kind), getattr(back, kind), strict=True):
            assert np.array_equal(found, forth[[1, 0, 1]])
    assert repr(back).startswith("<Captured receiver, layers 2, 0, 2: states, keys and values of 3")


def test_the_guides_matrix_is_solved_from_captured_states(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    guide = Path(__file__).parents[2].joinpath("docs", "translators.md").read_text("utf-8")
    (code,) = re.findall(r"```python\n(import numpy.*?)```", guide, re.DOTALL)
    for model, side in (("160m", "sender"), ("410m", "receiver")):
        code = code.replace(f"EleutherAI/pythia-{model}", str(folder / side))
    exec(code, {})
    made = statebridge.load_translator(tmp_path / "maps" / "seed42.safetensors")
    assert (made.width_in, made.width_out) == (16, 16)


def test_captured_arrays_are_written_as_safetensors(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "new" / "states.safetensors"
    captured = statebridge.capture(str(folder / "sender"), PROMPTS, [-1], max_tokens=2, out=file)
    stored = safetensors.numpy.load_file(file)
    assert set(stored) == {f"{kind}.{n}" for kind in ("states", "token_ids") for n in range(3)}
    assert [len(ids) for ids in captured.token_ids][:2] == [2, 2]
    for number, states in enumerate(captured.states):
        assert np.array_equal(stored[f"states.{number}"], states)
    (tmp_path / "file").write_text("x")
    with pytest.raises(EnvironmentFault, match="cannot be made"):
        captured.save(tmp_path / "file" / "states.safetensors")


def test_a_layer_or_a_prompt_that_is_none_is_refused(folder: Path) -> None:
    with pytest.raises(PairError):
        statebridge.capture(str(folder / "sender"), PROMPTS, [9])
    with pytest.raises(PairError, match="no tokens"):
        statebridge.capture(str(folder / "sender"), ["Lima", ""], [1])
    with pytest.raises(
        PairError, match=r"^prompt 1: has \d+ tokens, .* give max_tokens=512 to cut"
    ):
        statebridge.capture(str(folder / "sender"), ["Lima", "Lima " * 600], [1])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"prompts": "Lima"}, "prompts: give a list of texts, one at least, not 'Lima'"),
        ({"prompts": []}, "prompts: give a list of texts, one at least"),
        ({"prompts": ["a", 3]}, "prompts: give a list of texts"),
        ({"prompts": ["a\ud800"]}, "prompts: give whole characters"),
        ({"layers": 1}, "layers: give a list of relative depths (0.67), indices (8) or module"),
        ({"layers": "1"}, "layers: give a list"),
        ({"layers": []}, "layers: give a list"),
        ({"layers": [True]}, "layers: give a list"),
        ({"layers": [None]}, "layers: give a list"),
        ({"device": "gpu"}, "device: give auto, cpu, cuda or cuda:N, not 'gpu'"),
        ({"dtype": "float8"}, "dtype: 'float8'; did you mean"),
        ({"max_tokens": 0}, "max_tokens: give a whole number of at least 1, not 0"),
        ({"max_tokens": True}, "max_tokens: give a whole number"),
        ({"model": None}, "model: give a hub id, a folder or a loaded model, not None"),
        ({"max_tokens": 2.5}, "max_tokens: give a whole number"),
        ({"out": "states.pt"}, "out: states.pt: the file is written as safetensors; end its name"),
    ],
)
def test_wrong_arguments_of_capture_are_named(changes: dict[str, Any], words: str) -> None:
    arguments = {"model": "nowhere", "prompts": PROMPTS, "layers": [0]} | changes
    with pytest.raises(InputError) as caught:
        statebridge.capture(**arguments)
    assert str(caught.value).startswith(words)


@pytest.mark.parametrize("made", [[], {"a": 1}, None, [{"id": "a"}]])
def test_a_task_that_returns_no_rows_is_named(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TASKS._things, "mine", lambda settings: made)
    with pytest.raises(
        DatasetError, match=r"^task mine: its function returned .*list of DatasetRow"
    ):
        generated_rows(GeneratedRows.model_construct(rows=3, task="mine"))


def test_a_task_that_repeats_an_id_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    row = DatasetRow("a", "b", "c", "d")
    monkeypatch.setitem(TASKS._things, "mine", lambda settings: [row, row])
    with pytest.raises(DatasetError, match=r"^task mine: two rows have the id 'a'"):
        generated_rows(GeneratedRows.model_construct(rows=3, task="mine"))


def test_a_kind_of_translator_that_builds_nothing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def mine(width_in: int, width_out: int, options: Any) -> Any:
        return None

    monkeypatch.setitem(KINDS._things, "mine", TranslatorKind(mine, "mine", ()))
    with pytest.raises(
        TranslatorError, match=r"^translator kind mine: its function .*mine returned No"
    ):
        statebridge.Translator("mine", 2, 3)
    with pytest.raises(TranslatorError, match=r"unknown option 'rnak'; did you mean rank\?"):
        TranslatorKind(mine, "mine", ("rnak",))


@pytest.mark.parametrize(
    ("widths", "words"),
    [((2, 4), r"\(1, 1, 4\) for one state \(1, 1, 2\)"), ((3, 3), "mat1 and mat2")],
)
def test_a_kind_of_translator_with_other_widths_is_named(
    widths: tuple[int, int], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mine(width_in: int, width_out: int, options: Any) -> Any:
        return torch.nn.Linear(*widths)

    monkeypatch.setitem(KINDS._things, "mine", TranslatorKind(mine, "mine", ()))
    with pytest.raises(TranslatorError, match=rf"{words}.*; it must give \(1, 1, 3\)$"):
        statebridge.Translator("mine", 2, 3)


def test_a_corpus_of_evaluated_rows_alone_is_named(folder: Path, tmp_path: Path) -> None:
    rows = {"generate": {"rows": 6, "seed": 3}}
    declared = experiment(
        folder, dataset=rows, translators={"fit": {"kind": "ridge", "corpus": rows}}
    )
    with pytest.raises(
        TranslatorError, match=r"^corpus: 6 of 6 generated rows are rows of the exp"
    ):
        statebridge.fit(declared, tmp_path, progress=False)
