"""The layer profile equals checks made at one layer at a time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from typer.testing import CliRunner

from statebridge.commands.layer_profile import layer_profile as command
from statebridge.engine.planning.prepare import prepare
from statebridge.engine.sender_checks.checks import run_sender_checks
from statebridge.engine.sender_checks.plan import plan_sender_checks
from statebridge.engine.sender_checks.probe import probe
from statebridge.engine.sender_checks.profile import layer_profile
from statebridge.experiment import parse_experiment
from statebridge.results.layer_profile import LayerProfile
from statebridge.tables.profile_table import profile_table
from tests.bridge.engine.tiny_experiment import dataset_rows, engine_pair, neox_pair
from tests.reference.decoding import answer_ids
from tests.reference.formulas import task_prompt
from tests.reference.hooks import capture
from tests.tiny_models import mixed_rows, save_pair_folder

ROWS = mixed_rows(8, seed=5)
FIELDS: dict[str, Any] = {
    "name": "tiny",
    "sender": {"model": "tiny-sender", "layer": 2},
    "receiver": {"model": "tiny-receiver", "layer": 2},
    "dataset": {"path": "rows.jsonl"},
    "conditions": ["no_inject"],
    "seeds": [3],
}


@pytest.fixture(scope="module")
def found() -> LayerProfile:
    pair = engine_pair(neox_pair())
    return layer_profile(parse_experiment(json.dumps(FIELDS)), pair, dataset_rows(ROWS), [0, 2])


def test_patches_are_the_checks_of_that_layer(found: LayerProfile) -> None:
    pair = engine_pair(neox_pair())
    reading = {"name": "last", "source": "sender", "prompt": "question_only"}
    reading |= {"positions": "last", "source_positions": "last", "align": "last_dimensions"}
    declared = parse_experiment(json.dumps(FIELDS | {"conditions": [reading]}))
    work = prepare(declared, pair, dataset_rows(ROWS), {})
    checks = run_sender_checks(plan_sender_checks(work), 64)
    (sender, receiver) = found.models
    assert (sender.side, [layer.layer for layer in sender.layers]) == ("sender", [0, 2])
    assert [layer.layer for layer in receiver.layers] == [0, 1, 2, 3]
    here = sender.layers[1].checks
    assert {check.replacement for check in here.checks} == {"patch"}
    wanted = {c.positions: c for c in checks.checks if c.replacement == "patch"}
    for check in here.checks:
        for one, other in zip(check.rows, wanted[check.positions].rows, strict=True):
            assert one.donor_row_id == other.donor_row_id
            assert one.gold.logprob == pytest.approx(other.gold.logprob, abs=2e-5)


def test_probes_read_the_last_state(found: LayerProfile) -> None:
    oracle = neox_pair()
    states = [
        capture(oracle.sender, 2, list(oracle.tokenizer(task_prompt(row))["input_ids"]))[0, -1]
        for row in ROWS
    ]
    own = torch.stack(states).double().numpy()
    answers = [row["answer"] for row in ROWS]

    def embedded(model: Any) -> Any:
        weight = model.get_input_embeddings().weight.detach().double()
        ids = [answer_ids(oracle.tokenizer, task_prompt(row), row["answer"]) for row in ROWS]
        return torch.stack([weight[of_answer].mean(dim=0) for of_answer in ids]).numpy()

    here = found.models[0].layers[1]
    vectors = embedded(oracle.sender)
    assert here.seen == probe(own, answers, vectors, 3, held_out="rows")
    assert here.unseen == probe(own, answers, vectors, 3, held_out="answers")
    assert here.across == probe(own, answers, embedded(oracle.receiver), 3, held_out="answers")
    assert found.models[1].layers[0].across is None


def test_the_table_has_a_row_for_each_layer(found: LayerProfile) -> None:
    table = profile_table(found)
    assert [row[:3] for row in table.rows][:3] == [
        ("sender", 0, False),
        ("sender", 2, True),
        ("receiver", 0, False),
    ]


def test_the_command_writes_the_profile(tmp_path: Path) -> None:
    oracle = neox_pair()
    save_pair_folder(oracle.sender, oracle.tokenizer, tmp_path / "sender")
    save_pair_folder(oracle.receiver, oracle.tokenizer, tmp_path / "receiver")
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    sides = {side: {"model": f"./{side}", "layer": 2} for side in ("sender", "receiver")}
    (tmp_path / "e.json").write_text(json.dumps(FIELDS | sides))
    app = typer.Typer()
    app.command()(command)
    words = [tmp_path / "e.json", "--sender-layers", "1", "--receiver-layers", "0.5"]
    result = CliRunner().invoke(app, [*map(str, words), "--out", str(tmp_path / "made")])
    assert result.exception is None
    assert "Layer profile" in result.stdout
    written = LayerProfile.model_validate_json(
        (tmp_path / "made" / "layer_profile.json").read_text()
    )
    assert [len(model.layers) for model in written.models] == [1, 1]
    assert (tmp_path / "made" / "layer_profile.md").is_file()
