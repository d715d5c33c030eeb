"""Rows, a vector and a matrix that a user has in memory or in a file of their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch

import statebridge
from statebridge.data.given_rows import given_dataset
from statebridge.errors import (
    DatasetError,
    ExperimentError,
    InputError,
    NumericError,
    PairError,
    ResultError,
    TranslatorError,
)
from statebridge.experiment.state_file import StateFile
from statebridge.records import DatasetRow
from statebridge.translators import Translator, load_translator, save_translator
from tests.tiny_models import save_pair_folder, tiny_neox, tiny_tokenizer

ROWS: list[Any] = [
    {"id": "a", "context": "Mei is in Oslo.", "question": "Where is Mei?", "answer": "Oslo"},
    DatasetRow("b", "Bob is in Lima.", "Where is Bob?", "Lima"),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    return save_pair_folder(
        tiny_neox(seed=2, layers=2, hidden=16, heads=2), tiny_tokenizer(), folder
    )


def _declared(model: Path, *conditions: Any) -> dict[str, Any]:
    side = {"model": str(model), "layer": 0}
    return {
        "name": "own",
        "sender": side,
        "receiver": side,
        "conditions": ["no_inject", *conditions],
        "decoding": {"max_new_tokens": 2},
        "execution": {"device": "cpu"},
    }


def _steered(path: Path, **more: Any) -> dict[str, Any]:
    return {
        "name": "steered",
        "source": "file",
        "operator": "add",
        "state_file": {"path": str(path), **more},
    }


def test_rows_in_memory_and_a_vector_from_a_file(model: Path, tmp_path: Path) -> None:
    vector, zero = tmp_path / "steer.npy", tmp_path / "zero.safetensors"
    np.save(vector, np.linspace(-3, 3, 16))
    safetensors.numpy.save_file({"v": np.zeros(16, "f4"), "w": np.ones(2, "f4")}, zero)
    nothing = {**_steered(zero, tensor="v"), "name": "nothing"}
    experiment = _declared(model, _steered(vector), nothing)
    out = tmp_path / "run"
    run = statebridge.run(experiment, out, rows=ROWS, progress=False)
    assert [row.row_id for row in run.rows(conditions=["no_inject"])] == ["a", "b"]
    gold = {name: run.score(name, "gold_logprob") for name in ("no_inject", "steered", "nothing")}
    assert gold["nothing"] == gold["no_inject"] != gold["steered"]
    # The same rows go on, others are refused, and so is another vector under the same path.
    assert statebridge.run(experiment, out, rows=iter(ROWS), progress=False).complete
    with pytest.raises(DatasetError, match=r"holds other rows, with which this run was started"):
        statebridge.run(experiment, out, rows=ROWS[:1], progress=False)
    np.save(vector, np.linspace(-2, 2, 16))
    with pytest.raises(ResultError, match=r"was started with another cell steered"):
        statebridge.run(experiment, out, rows=ROWS, progress=False)
    np.save(vector, np.zeros(8))
    with pytest.raises(PairError, match=r"steer\.npy has width 8, the receiver 16"):
        statebridge.run(experiment, tmp_path / "narrow", rows=ROWS, progress=False)


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ([], "none given"),
        (["text"], "row 1 is str; give DatasetRow, or mappings"),
        ([{"id": "a", "context": "", "question": "Q?"}], "answer"),
        ([{"id": "a", "answer": float("nan")}], "row 1 is not JSON"),
        ([{"id": "a", "question": "\ud800"}], "row 1 is not JSON"),
    ],
)
def test_rows_that_are_none_are_refused(rows: Any, problem: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=problem):
        given_dataset(rows, tmp_path / "run")
    assert not (tmp_path / "run" / "rows_given.jsonl").exists()


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.npy", np.ones((2, 3)), r"shape \(2, 3\); give a vector"),
        ("a.npy", np.array([1.0, np.nan]), "holds NaN or infinity"),
        ("a.npy", np.array(["x"]), "give a vector of numbers"),
        ("a.npy", np.array([{}], dtype=object), "is no array of numbers"),
        ("a.npy", b"not an array", "is no array of numbers"),
        ("a.safetensors", b"not one", "cannot be read as safetensors"),
        ("a.pt", b"", r"give a \.npy or \.safetensors file"),
        ("a.npy", None, "cannot be read: No such file"),
    ],
)
def test_a_file_without_a_vector_is_refused(
    name: str, content: Any, problem: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        np.save(path, content)
    with pytest.raises(InputError, match=problem):
        StateFile(path=str(path)).vector()


def test_a_file_with_another_hash_or_tensor_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "two.safetensors"
    safetensors.numpy.save_file({"v": np.zeros(2, "f4"), "w": np.ones(2, "f4")}, path)
    with pytest.raises(InputError, match="has the tensors v, w; name one of them as tensor"):
        StateFile(path=str(path)).vector()
    with pytest.raises(InputError, match="not the declared 0000"):
        StateFile(path=str(path), sha256="0" * 64).hashed()


def test_a_state_file_goes_with_source_file_alone(model: Path, tmp_path: Path) -> None:
    for change in ({"source": "zero"}, {"state_file": None}):
        experiment = _declared(model, {**_steered(tmp_path / "x.npy"), **change})
        with pytest.raises(ExperimentError, match="source file takes state_file"):
            statebridge.run(experiment, tmp_path / "run", rows=ROWS, progress=False)


def test_a_path_is_relative_to_the_experiment_file(model: Path, tmp_path: Path) -> None:
    file = tmp_path / "e.json"
    declared = _declared(model, _steered(Path("steer.npy"))) | {
        "dataset": {"generate": {"rows": 2}}
    }
    file.write_text(json.dumps(declared), "utf-8")
    condition: Any = statebridge.load_experiment(file).conditions[1]
    assert condition.state_file.path == str(tmp_path / "steer.npy")


def test_a_matrix_is_a_translator(tmp_path: Path) -> None:
    matrix = [[1, 2], [0, 3], [4, 0]]
    translator = Translator.from_matrix(matrix, np.array([0.5, 0, 0]))
    states = torch.tensor([[1.0, 10.0]])
    assert translator(states).tolist() == [[21.5, 30.0, 4.0]]
    save_translator(translator, tmp_path / "m.safetensors")
    assert load_translator(tmp_path / "m.safetensors")(states).tolist() == [[21.5, 30.0, 4.0]]
    unit = Translator.from_matrix(torch.eye(2), normalize_input=True)
    assert unit(torch.tensor([3.0, 4.0])).tolist() == pytest.approx([0.6, 0.8])


@pytest.mark.parametrize(
    ("weight", "bias", "error", "problem"),
    [
        ([1.0, 2.0], None, TranslatorError, "give a matrix"),
        ([["x"]], None, TranslatorError, "not numbers"),
        ([[1.0]], [1.0, 2.0], TranslatorError, "weight bias has shape"),
        ([[float("inf")]], None, NumericError, "NaN or infinity"),
    ],
)
def test_what_is_no_matrix_is_refused(weight: Any, bias: Any, error: Any, problem: str) -> None:
    with pytest.raises(error, match=problem):
        Translator.from_matrix(weight, bias)
