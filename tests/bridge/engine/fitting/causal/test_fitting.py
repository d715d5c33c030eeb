"""Fitting that goes on through the receiver: on which rows, and from which maps."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from statebridge.data.training_texts import TrainingTexts, held_out_answers, normal_text
from statebridge.engine.fitting.causal_rows import choose_rows
from statebridge.engine.fitting.corpus import read_corpus
from statebridge.engine.fitting.corpus_fit import fit_translators
from statebridge.errors import TranslatorError
from statebridge.experiment.experiment import Causal, Corpus, Dataset, Fit, GeneratedRows, Prompts
from statebridge.models.pair import Pair
from statebridge.records import DatasetRow
from statebridge.results.translator_card import TranslatorCard
from statebridge.tasks.declared_rows import generated_rows
from tests.bridge.engine.fitting.causal.causal_experiment import (
    causal_of,
    experiment_of,
    frozen,
    rows_of,
    write_rows,
)
from tests.bridge.translators.refusal import refused


def evaluated_rows(causal: Causal, count: int) -> list[DatasetRow]:
    return list(choose_rows(causal, ()).rows[:count])


def test_training_on_an_evaluated_row_is_refused(path: Path, pair: Pair) -> None:
    training = rows_of(20)
    # Another id does not make another row.
    cheat = DatasetRow("eval_7", training[3].context, training[3].question, training[3].answer)
    evaluated = [*rows_of(5, seed=9), cheat, training[11]]
    with refused(TranslatorError, "training.jsonl", "row_0003", "eval_7", "1 more"):
        frozen(pair, causal_of(path), evaluated)
    # The first three rows are others.
    causal = causal_of(path).model_copy(update={"limit": 3})
    assert len(choose_rows(causal, evaluated).rows) == 3


def test_generated_rows_that_are_evaluated_are_left_out() -> None:
    causal = Causal(rows=Dataset(generate=GeneratedRows(rows=30, seed=4)), limit=20)
    evaluated = evaluated_rows(causal, 6)
    chosen = choose_rows(causal, evaluated)
    assert len(chosen.rows) == 20
    assert chosen.evaluated_left_out == 6
    assert chosen.dataset == "generated multi-hop rows"
    assert not {row.row_id for row in chosen.rows} & {row.row_id for row in evaluated}
    everything = choose_rows(causal.model_copy(update={"limit": None}), ()).rows
    with refused(TranslatorError, "generated multi-hop rows", "0 rows", "at least 2"):
        choose_rows(causal, everything)


def test_rows_of_held_out_answers_are_left_out() -> None:
    rows, evaluated = GeneratedRows(rows=60, seed=4), generated_rows(GeneratedRows(rows=60, seed=5))
    causal = Causal(rows=Dataset(generate=rows), hold_out_answers=0.5)
    held = held_out_answers(evaluated, 0.5)
    assert 0 < len(held) < len({row.answer for row in evaluated})
    chosen = choose_rows(causal, evaluated)
    kept = {normal_text(row.answer) for row in chosen.rows}
    assert chosen.held_out > 0
    assert chosen.held_out + len(chosen.rows) == 60
    assert not kept & held
    assert {normal_text(row.answer) for row in evaluated} & kept
    corpus = read_corpus(Corpus(generate=rows, hold_out_answers=0.5), Prompts(), evaluated)
    assert [row.row_id for row in corpus.rows] == [row.row_id for row in chosen.rows]


def test_a_text_file_has_no_answers_to_hold_out() -> None:
    with pytest.raises(ValidationError, match="a text file has no answers"):
        Corpus(path=Path("text.txt"), hold_out_answers=0.2)


def fit_of(causal: Causal, **fields: object) -> Fit:
    corpus = Corpus(generate=GeneratedRows(rows=12, seed=3), max_tokens=40)
    return Fit.model_validate({"kind": "ridge", "corpus": corpus, "causal": causal, **fields})


def test_fitting_trains_through_the_receiver(path: Path, pair: Pair, tmp_path: Path) -> None:
    evaluated = write_rows(tmp_path / "evaluated.jsonl", rows_of(6, seed=9))
    experiment = experiment_of(pair, evaluated)
    stages: set[str] = set()
    cards: list[TranslatorCard] = []
    for causal in (None, causal_of(path)):
        fit = fit_of(causal_of(path)).model_copy(update={"causal": causal})
        fitted = fit_translators(
            pair,
            fit,
            read_corpus(fit.corpus, Prompts()),
            (1, 2),
            lambda stage, *_: stages.add(stage),
            experiment=experiment,
        )
        assert list(fitted) == [1, 2]
        cards += [card for translator in fitted.values() if (card := translator.card)]
    assert {"causal_capture", "causal_train"} <= stages
    alone, trained = cards[0], cards[2]
    assert alone.causal is None
    assert trained.causal is not None
    assert trained.training == alone.training
    assert [card.causal.seed for card in cards[2:] if card.causal] == [1, 2]
    # Hashes of the rows that the fit saw, and of those that were trained on through the receiver.
    assert alone.trained_on is not None
    corpus = read_corpus(fit_of(causal_of(path)).corpus, Prompts())
    assert alone.trained_on == TrainingTexts.of(corpus.rows[: corpus.held_out_start])
    assert trained.trained_on == alone.trained_on.joined(TrainingTexts.of(rows_of(20)))
    # Quality is that of the map that is handed over, which no longer aims at likeness.
    assert trained.quality[0].normalised.r2 < alone.quality[0].normalised.r2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "fields", "built", "method"),
    [
        ("procrustes", {}, "affine", "procrustes"),
        ("low_rank", {"rank": 3}, "low_rank", "adamw"),
        ("gated", {}, "gated", "adamw"),
        ("affine", {}, "affine", "adamw"),
    ],
)
def test_every_kind_is_fitted_and_trained_on(
    path: Path, pair: Pair, kind: str, fields: dict[str, int], built: str, method: str
) -> None:
    training = {"epochs": 1, "warmup_steps": 1}
    fit = fit_of(causal_of(path, epochs=1), kind=kind, training=training, **fields)
    fitted = fit_translators(
        pair,
        fit,
        read_corpus(fit.corpus, Prompts()),
        (1,),
        experiment=experiment_of(pair),
        evaluated=rows_of(6, seed=9),
    )
    card = fitted[1].card
    assert card is not None
    assert card.training is not None
    assert card.causal is not None
    assert (card.kind, card.training.method, card.options) == (built, method, fields)


def test_fitting_refuses_evaluated_rows_that_it_finds_itself(path: Path, pair: Pair) -> None:
    fit = fit_of(causal_of(path))
    corpus = read_corpus(fit.corpus, Prompts())
    with refused(TranslatorError, "training.jsonl", "row_0000", "19 more"):
        fit_translators(pair, fit, corpus, (1,), experiment=experiment_of(pair, path))
    with refused(TranslatorError, "fit.causal", "experiment"):
        fit_translators(pair, fit, corpus, (1,))
