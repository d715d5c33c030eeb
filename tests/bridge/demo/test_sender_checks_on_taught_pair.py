"""On the taught pair the checks find where the sender holds its answer, and where it does not."""

from __future__ import annotations

import json

import pytest
from scripts.demo_pair.lessons import held_out_rows

from statebridge.demo.taught_pair import TAUGHT, taught_pair_folders
from statebridge.engine.planning.prepare import prepare
from statebridge.engine.sender_checks.checks import run_sender_checks
from statebridge.engine.sender_checks.plan import plan_sender_checks
from statebridge.experiment import parse_experiment
from statebridge.experiment.experiment import ModelAtLayer
from statebridge.models.loading import load_model
from statebridge.models.pair import Pair
from statebridge.models.traced_model import TracedModel
from statebridge.stats.sender_effect import AnswerChange, sender_effects

pytestmark = pytest.mark.skipif(
    not (TAUGHT / "sender" / "model.safetensors").is_file(),
    reason="the taught pair's files are not there; scripts/demo_pair/train.py writes them",
)

ROWS = 60
CHANCE = 0.45
"""Each context has three candidates: one in three, and two standard deviations of 60 rows."""
KEPT = 0.85
"""Share of the rows: at least 95 % are right before, less about two standard deviations."""


@pytest.fixture(scope="module")
def sender() -> TracedModel:
    folder = str(taught_pair_folders()["sender"])
    side = ModelAtLayer(model=folder, layer=-1)
    return load_model(side, device="cpu")


def effects_at(sender: TracedModel, layer: int) -> dict[tuple[str, str], AnswerChange]:
    """The change of the gold answer by positions and replacement, at a layer of the sender."""
    model = sender.at_layer(layer)
    raw = {"source": "sender", "prompt": "question_only"}
    declared = {
        "name": "taught",
        "sender": {"model": "taught", "layer": model.layer},
        "receiver": {"model": "taught", "layer": model.layer},
        "dataset": {"path": "held_out.jsonl"},
        "conditions": [
            {"name": "everywhere", **raw, "prompt": "task"},
            {"name": "last", **raw, "positions": "last", "source_positions": "last"},
        ],
        "seeds": [0],
        "decode": False,
    }
    experiment = parse_experiment(json.dumps(declared))
    plan = plan_sender_checks(prepare(experiment, Pair(model, model), held_out_rows(ROWS), {}))
    found = sender_effects(run_sender_checks(plan, max_lanes=128))
    return {(e.positions, e.replacement): e.gold for e in found}


@pytest.mark.slow
def test_replacing_used_states_alone_takes_the_sender_to_chance(
    sender: TracedModel,
) -> None:
    at_end = effects_at(sender, -1)
    assert at_end["last", "mean"].right_before >= 0.95
    for how in ("mean", "zero", "patch"):
        # After the last block only the last position is read off.
        assert at_end["all", how].right_after <= CHANCE
        assert at_end["last", how].right_after <= CHANCE
        assert at_end["context", how].right_after >= KEPT
        assert at_end["first", how].right_after >= KEPT


@pytest.mark.slow
def test_in_early_blocks_the_answer_is_in_the_context_states(
    sender: TracedModel,
) -> None:
    early = effects_at(sender, 0)  # one block cannot walk two links
    assert early["context", "mean"].right_after <= CHANCE
    assert early["all", "mean"].right_after <= CHANCE
