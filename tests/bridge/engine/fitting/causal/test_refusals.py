"""Bad input to a training through the receiver: one line that says what would be right."""

from __future__ import annotations

from pathlib import Path

import pytest

from statebridge.engine.fitting.causal_training import train_causally
from statebridge.engine.fitting.frozen_rows import FrozenRows
from statebridge.errors import (
    DatasetError,
    ExperimentError,
    NumericError,
    PairError,
    TranslatorError,
)
from statebridge.experiment.conditions import Condition
from statebridge.models.pair import Pair
from statebridge.results.translator_card import StateOrigin
from statebridge.translators import Translator, make_card
from tests.bridge.engine.fitting.causal.causal_experiment import (
    QUICK,
    causal_of,
    frozen,
    started,
    with_settings,
)
from tests.bridge.translators.refusal import refused


def test_translator_of_another_width(rows: FrozenRows) -> None:
    with refused(TranslatorError, "width 24 to 31", "24 to 32", "tiny-receiver"):
        train_causally(rows, Translator("affine", 24, 31))


@pytest.mark.parametrize("side", ["sender", "receiver"])
def test_translator_of_another_layer(rows: FrozenRows, pair: Pair, side: str) -> None:
    translator = started(pair)
    width = 24 if side == "sender" else 32
    origin = StateOrigin(model="other", layer="gpt_neox.layers.0", width=width)
    card = make_card(translator).model_copy(update={side: origin})
    translator.card = card
    with refused(TranslatorError, side, "gpt_neox.layers.0", "gpt_neox.layers.2"):
        train_causally(rows, translator)


def test_condition_that_translates_nothing(path: Path) -> None:
    for through in ("skyline", "private_last_random", "private_last_shuffled"):
        with pytest.raises(ValueError, match=f"through: {through} writes source"):
            causal_of(path, through)
    with pytest.raises(ValueError, match="private is a preset"):
        causal_of(path, "private")


def test_nothing_to_train_for(path: Path) -> None:
    with pytest.raises(ValueError, match="gold_weight and skyline_weight are both 0"):
        type(QUICK).model_validate({"gold_weight": 0, "skyline_weight": 0})


def test_too_few_rows(pair: Pair, path: Path) -> None:
    few = causal_of(path).model_copy(update={"limit": 3})
    with (
        frozen(pair, few) as held,
        refused(TranslatorError, "3 training rows", "0 to validate", "more rows"),
    ):
        train_causally(held, started(pair))
    with (
        frozen(pair, causal_of(path, warmup_steps=12)) as held,
        refused(TranslatorError, "15 training rows", "12 steps", "warmup_steps 12"),
    ):
        train_causally(held, started(pair))


def test_positions_that_do_not_meet(pair: Pair, path: Path) -> None:
    everywhere = Condition(name="everywhere", source="translated", prompt="question_only")
    with refused(PairError, "everywhere", "does not see the context"):
        frozen(pair, causal_of(path, everywhere))
    far = Condition(name="far", source="translated", positions="last", source_positions=(200,))
    with refused(ExperimentError, "far", "position 200"):
        frozen(pair, causal_of(path, far))


def test_rows_that_are_not_there(pair: Pair, tmp_path: Path) -> None:
    with refused(DatasetError, "none.jsonl"):
        frozen(pair, causal_of(tmp_path / "none.jsonl"))


def test_remote_pair(pair: Pair, path: Path) -> None:
    with refused(TranslatorError, "ndif", "weights here"):
        frozen(pair, causal_of(path), remote="ndif")


def test_a_loss_that_is_not_finite(rows: FrozenRows, pair: Pair) -> None:
    endless = with_settings(rows, learning_rate=1e30, warmup_steps=0, max_gradient_norm=None)
    with refused(NumericError, "causal loss", "lower learning_rate than 1e+30"):
        train_causally(endless, started(pair))
