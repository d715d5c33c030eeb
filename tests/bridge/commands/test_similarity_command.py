"""`statebridge similarity` on a tiny pair: table, JSON, files, refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from statebridge.commands.options import read_layers
from statebridge.commands.similarity import similarity
from statebridge.errors import ExperimentError, PairError
from statebridge.results.layer_similarity import SimilarityMap
from tests.tiny_models import mixed_rows, save_pair_folder, tiny_neox, tiny_tokenizer

APP = typer.Typer()
APP.command()(similarity)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("similarity")
    tokenizer = tiny_tokenizer()
    save_pair_folder(tiny_neox(seed=1, layers=3, hidden=24), tokenizer, folder / "sender")
    save_pair_folder(
        tiny_neox(seed=2, layers=4, hidden=32, heads=4), tokenizer, folder / "receiver"
    )
    rows = "".join(json.dumps(row) + "\n" for row in mixed_rows(12, seed=5))
    (folder / "rows.jsonl").write_text(rows)
    (folder / "text.txt").write_text("\n\n".join(f"Bob works in Lima {i}." for i in range(20)))
    experiment: dict[str, Any] = {
        "name": "tiny",
        "sender": {"model": "./sender", "layer": 1},
        "receiver": {"model": "./receiver", "layer": 2},
        "dataset": {"path": "rows.jsonl"},
        "conditions": ["no_inject"],
    }
    (folder / "dataset.json").write_text(json.dumps(experiment))
    fit = {"kind": "ridge", "corpus": {"path": "text.txt", "max_tokens": 9}}
    (folder / "corpus.json").write_text(
        json.dumps(experiment | {"conditions": ["replace"], "translators": {"fit": fit}})
    )
    return folder


def run(*words: object) -> str:
    result = CliRunner().invoke(APP, [str(word) for word in words])
    if result.exception is not None:
        raise result.exception
    return result.stdout


def test_the_fitting_corpus_is_compared_over_every_layer(workplace: Path) -> None:
    found = SimilarityMap.model_validate_json(run(workplace / "corpus.json", "--json"))
    assert (found.corpus.name, found.corpus.passages) == ("text.txt", 20)
    assert found.positions <= 20 * 8
    assert len(found.pairs) == 3 * 4
    assert all(0 <= pair.cka <= 1 for pair in found.pairs)


@pytest.mark.slow
def test_without_a_corpus_the_datasets_prompts_are_read(workplace: Path) -> None:
    shown = run(
        workplace / "dataset.json", "--sender-layers", "0.67", "--receiver-layers", "1,-1",
        "--neighbours", 3, "--sampled", 50, "--out", workplace / "made" / "here",
    )  # fmt: skip
    found = SimilarityMap.model_validate_json(
        (workplace / "made" / "here" / "similarity.json").read_text()
    )
    assert [(p.sender_layer, p.receiver_layer) for p in found.pairs] == [(2, 1), (2, 3)]
    assert (found.neighbours, found.sampled, found.corpus.passages) == (3, 50, 12)
    for pair in found.pairs:
        assert f"{pair.cka:.4f}" in shown
        assert f"{pair.neighbour_overlap:.4f}" in shown
    names = {path.name for path in (workplace / "made" / "here").iterdir()}
    for measure in ("cka", "neighbour_overlap"):
        assert {f"similarity_{measure}.{kind}" for kind in ("svg", "pdf", "png")} < names


def test_wrong_layers_are_refused(workplace: Path) -> None:
    with pytest.raises(PairError, match="layer 7 of"):
        run(workplace / "dataset.json", "--sender-layers", "7")
    for text in ("", "a: b", "[1", "true", "{x: 1}"):
        with pytest.raises(ExperimentError, match="give a list such as"):
            read_layers(text)
    assert read_layers("0.25, 3,gpt_neox.layers.1") == [0.25, 3, "gpt_neox.layers.1"]
    (workplace / "file").write_text("")
    with pytest.raises(ExperimentError, match="is a file; give a folder"):
        run(workplace / "dataset.json", "--out", workplace / "file")
