"""A map of messages is trained through the receiver: its loss is that of a run, and it learns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from statebridge.engine.fitting.corpus import read_corpus
from statebridge.engine.fitting.corpus_fit import fit_translators
from statebridge.engine.fitting.frozen_rows import prepare_rows
from statebridge.engine.fitting.message_training import MessageRows, drawn_map
from statebridge.errors import StatebridgeError
from statebridge.experiment.experiment import Fit, Prompts
from statebridge.models.pair import Pair
from statebridge.records import DatasetRow
from statebridge.translators import Translator, load_translator, save_translator
from tests.bridge.channels.prepended import pair_of
from tests.bridge.engine.fitting.causal.causal_experiment import (
    causal_of,
    experiment_of,
    rows_of,
    write_rows,
)
from tests.bridge.engine.fitting.causal.test_training import weights_hash
from tests.bridge.engine.tiny_experiment import engine_pair, neox_pair, run_engine
from tests.tiny_models import NAMES

FITS: dict[str, dict[str, Any]] = {
    "fused": {"kind": "fuser", "fuser": {"hidden_dim": 12, "inner_dim": 8}},
    "fused_question": {"kind": "fuser", "fuser": {"hidden_dim": 16}},
    "resampled": {
        "kind": "resampler",
        "resampler": {"vectors": 3, "hidden_dim": 16, "heads": 2},
    },
    "kv_mapped": {
        "kind": "kv_ridge",
        "corpus": {"generate": {"rows": 24, "hops": [2], "seed": 4}},
        "key_values": {"heads": "all", "sources": 2},
    },
}
"""A fit for each condition that a map is trained through."""


def _fit(path: Path, through: str, **settings: Any) -> Fit:
    causal = causal_of(path, through, **settings).model_dump()
    return Fit.model_validate(FITS[through] | {"causal": causal})


@pytest.mark.slow
@pytest.mark.parametrize("through", ["fused", "resampled", "kv_mapped"])
def test_the_loss_is_that_of_what_a_run_sends(through: str, tmp_path: Path) -> None:
    pair, rows = engine_pair(pair_of("neox")), rows_of(7, seed=3)
    fit = _fit(write_rows(tmp_path / "rows.jsonl", rows), through)
    assert fit.causal is not None
    made = drawn_map(pair, fit, 5)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1)  # a drawn fuser changes nothing
    made.requires_grad_(False)
    done = run_engine(pair, rows, {0: made}, conditions=[through], decode=False)
    chosen, work = prepare_rows(experiment_of(pair), pair, fit.causal, ())
    with MessageRows(work, fit.causal, chosen) as held, torch.no_grad():
        held.capture(lambda *_: None)
        together = held.losses(range(7), made).gold
        alone = torch.cat([held.losses([row], made).gold for row in range(7)])
    for place, row in enumerate(rows):
        lane = done.rows[f"{through}/seed0", row.row_id]
        assert lane.gold_logprob is not None
        assert lane.gold_token_count is not None
        expected = -lane.gold_logprob / lane.gold_token_count
        # Sums over other batches, in float32.
        assert float(together[place]) == pytest.approx(expected, abs=1e-4)
        assert float(alone[place]) == pytest.approx(expected, abs=1e-4)


def _trained(through: str, folder: Path, **settings: Any) -> tuple[Pair, Translator]:
    """One question, two contexts, two answers: without a message the loss cannot pass ln 2."""
    pair = engine_pair(neox_pair())
    shown = [
        DatasetRow(f"{place} {name}", f"{name} is in {place}", "Who?", place)
        for name in (f"{a} {b}" for a in NAMES[:5] for b in NAMES[:5])
        for place in ("Oslo", "Lima")
    ]
    path = write_rows(folder / "rows.jsonl", shown)
    fit = _fit(path, through, skyline_weight=0.0, **settings)
    corpus = read_corpus(fit.corpus, Prompts())
    experiment = experiment_of(pair, translators=None, conditions=["skyline"])
    made = fit_translators(pair, fit, corpus, [1], experiment=experiment, evaluated=())
    return pair, made[1]


@pytest.mark.slow
@pytest.mark.parametrize("through", ["resampled", "kv_mapped"])
def test_training_learns_and_changes_no_model(through: str, tmp_path: Path) -> None:
    before = weights_hash(engine_pair(neox_pair()))
    quick = {"epochs": 2, "patience": 2, "learning_rate": 0.005, "batch_rows": 8}
    pair, made = _trained(through, tmp_path, **quick)
    assert weights_hash(pair) == before
    assert made.card is not None
    assert made.card.causal is not None
    record = made.card.causal
    assert record.condition["name"] == through
    assert record.epochs[record.best_epoch].validation_gold < 0.9 * record.epochs[0].validation_gold
    assert made.card.trained_on is not None
    save_translator(made, tmp_path / "made.safetensors")
    assert load_translator(tmp_path / "made.safetensors").card == made.card


@pytest.mark.soak
@pytest.mark.parametrize("through", FITS)
def test_a_word_of_the_context_passes_a_trained_message(through: str, tmp_path: Path) -> None:
    _, made = _trained(through, tmp_path, epochs=16, patience=16, learning_rate=0.005)
    assert made.card is not None
    assert made.card.causal is not None
    record = made.card.causal
    assert record.epochs[record.best_epoch].validation_gold < 0.35  # half of ln 2


@pytest.mark.parametrize(
    ("fit", "words"),
    [
        (
            {"kind": "fuser"},
            "kind fuser is trained through the receiver alone; give causal and no corpus",
        ),
        (
            {"kind": "fuser", "causal": {"rows": {"path": "r.jsonl"}}},
            "private_last needs a kind of maps of states, and its map is of fuser",
        ),
        ({"kind": "affine"}, "missing; kind affine is fitted on one"),
        (
            {
                "kind": "ridge",
                "corpus": {"path": "c.txt"},
                "causal": {"rows": {"path": "r.jsonl"}, "through": "fused"},
            },
            "fused needs kind fuser, and its map is of ridge",
        ),
    ],
)
def test_fits_that_do_not_fit_together_are_refused(fit: dict[str, Any], words: str) -> None:
    with pytest.raises((StatebridgeError, ValueError), match=words):
        Fit.model_validate(fit)
