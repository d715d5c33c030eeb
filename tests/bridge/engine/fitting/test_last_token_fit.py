"""A map fitted on the last tokens of passages: where models of different tokenizers meet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from statebridge.engine.fitting.corpus import paired_positions, read_corpus
from statebridge.engine.fitting.corpus_fit import fit_translators
from statebridge.engine.run_experiment import run_experiment
from statebridge.errors import PairError
from statebridge.experiment.experiment import Experiment, Fit
from statebridge.models.pair import Pair, load_pair
from statebridge.models.traced_model import TracedModel
from statebridge.results.run_results import read_run
from tests.tiny_models import (
    save_pair_folder,
    tiny_llama,
    tiny_llama_tokenizer,
    tiny_neox,
    tiny_tokenizer,
)

CORPUS: dict[str, Any] = {
    "generate": {"rows": 60, "hops": [2], "distractors": 0, "seed": 4},
    "positions": "last",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("families")
    neox = tiny_neox(seed=1, layers=3, hidden=24, heads=3)
    save_pair_folder(neox, tiny_tokenizer(), path / "neox")
    llama = tiny_llama(seed=2, layers=4, hidden=32, heads=4)
    save_pair_folder(llama, tiny_llama_tokenizer(), path / "llama")
    return path


def experiment(folder: Path, receiver: str = "llama", **fields: Any) -> Experiment:
    return Experiment.model_validate(
        {
            "name": "families",
            "sender": {"model": str(folder / "neox"), "layer": 1},
            "receiver": {"model": str(folder / receiver), "layer": -2},
            "dataset": {"generate": {"rows": 8, "hops": [2], "distractors": 1, "seed": 3}},
            "translators": {"fit": {"kind": "ridge", "corpus": CORPUS}},
            "conditions": ["question_only", "skyline", "private_last", "private_last_shuffled"],
            "seeds": [1, 2],
            "decoding": {"max_new_tokens": 3},
            "execution": {"device": "cpu"},
            **fields,
        }
    )


def declared_fit(declared: Experiment) -> Fit:
    assert isinstance(declared.translators, Fit)
    return declared.translators


def last_states(model: TracedModel, passages: Sequence[str], limit: int) -> torch.Tensor:
    """By Hugging Face's own record of hidden states, one passage at a time."""
    found = []
    for passage in passages:
        ids = model.tokenizer(passage, return_tensors="pt").input_ids[:, :limit]
        with torch.no_grad():
            output = model.module(input_ids=ids, output_hidden_states=True)
        found.append(output.hidden_states[model.layer + 1][0, -1])
    return torch.stack(found)


def pairs_of(pair: Pair, fit: Fit, passages: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
    parts = list(paired_positions(pair, passages, fit.corpus))
    sent, received = zip(*parts, strict=True)
    return torch.cat(sent), torch.cat(received)


def by_norm(states: torch.Tensor) -> torch.Tensor:
    return states[states.norm(dim=1).argsort()]


@pytest.mark.slow
def test_the_pairs_are_the_last_tokens_of_each_model(folder: Path) -> None:
    declared = experiment(folder)
    pair = load_pair(declared)
    fit = declared_fit(declared)
    passages = read_corpus(fit.corpus, declared.prompts).passages
    sent, received = pairs_of(pair, fit, passages)
    # In an order of their own: batches are of passages of one length. 1e-5: float32 sums.
    for side, states in ((pair.sender, sent), (pair.receiver, received)):
        expected = last_states(side, passages, fit.corpus.max_tokens)
        torch.testing.assert_close(by_norm(states), by_norm(expected), rtol=1e-5, atol=1e-5)
    # And still of one passage: each pair is in the order of the other side.
    order = last_states(pair.sender, passages, 256).norm(dim=1).argsort()
    expected = last_states(pair.receiver, passages, 256)[order]
    torch.testing.assert_close(received[sent.norm(dim=1).argsort()], expected, rtol=1e-5, atol=1e-5)


def test_passages_cut_for_either_tokenizer_are_left_out(folder: Path) -> None:
    declared = experiment(folder)
    pair = load_pair(declared)
    fit = declared_fit(declared)
    passages = read_corpus(fit.corpus, declared.prompts).passages
    lengths = [
        max(len(side.tokenizer(text).input_ids) for side in (pair.sender, pair.receiver))
        for text in passages
    ]
    limit = sorted(lengths)[len(lengths) // 2]
    shorter = fit.model_copy(update={"corpus": fit.corpus.model_copy(update={"max_tokens": limit})})
    sent, _ = pairs_of(pair, shorter, passages)
    assert len(sent) == sum(length <= limit for length in lengths) < len(passages)


@pytest.mark.slow
def test_cards_of_two_families_state_how_they_were_fitted(folder: Path, tmp_path: Path) -> None:
    run_experiment(experiment(folder), tmp_path / "run")
    results = read_run(tmp_path / "run")
    written = results.cell("private_last", 1)
    assert written is not None
    assert any(row.prediction_changed for row in written.lanes)
    declared = experiment(folder)
    fit = declared_fit(declared)
    corpus = read_corpus(fit.corpus, declared.prompts)
    fitted = fit_translators(load_pair(declared), fit, corpus, [1], stitched=True)
    card = fitted[1].card
    assert card is not None
    assert card.corpus is not None
    assert card.corpus.positions == "last"
    assert card.stitched is None


def test_all_positions_take_one_tokenizer(folder: Path, tmp_path: Path) -> None:
    everywhere = {"fit": {"kind": "ridge", "corpus": CORPUS | {"positions": "all"}}}
    with pytest.raises(PairError, match=r"tokenise it differently.*corpus.positions last"):
        run_experiment(experiment(folder, translators=everywhere), tmp_path / "run")
