"""`statebridge doctor` finds in prompts, before the run, what the run itself would find."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from statebridge.engine.doctor.readiness import Check, check_readiness
from statebridge.engine.run import run_experiment
from statebridge.errors import StatebridgeError
from statebridge.experiment import Experiment, parse_experiment
from tests.tiny_models import save_pair_folder, tiny_neox, tiny_tokenizer

LONG = "What is " + "the place of " * 30 + "it?"
ROWS = [
    {"id": "a", "context": "Mei lives in Oslo.", "question": "Where is Mei?", "answer": "Oslo"},
    {"id": "b", "context": "Ada is here.", "question": "Where is Ada?", "answer": "here"},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("pair")
    shape: dict[str, Any] = {"layers": 2, "hidden": 16, "heads": 2, "end_share": 0}
    for seed, name in enumerate(("sender", "receiver")):
        save_pair_folder(tiny_neox(seed, **shape), tiny_tokenizer(), made / name)
    return made


def declared(folder: Path, **fields: Any) -> Experiment:
    rows = fields.pop("rows", ROWS)
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    whole = {
        "name": "tiny",
        "sender": {"model": str(folder / "sender"), "layer": 1},
        "receiver": {"model": str(folder / "receiver"), "layer": 1},
        "dataset": {"path": str(file)},
        "seeds": [1],
        "decoding": {"max_new_tokens": 3, "relay_max_new_tokens": 3},
        **fields,
    }
    return parse_experiment(json.dumps(whole))


def prompts(experiment: Experiment) -> Check:
    checks = {check.what: check for check in check_readiness(experiment)}
    assert checks["layers"].ready
    return checks["prompts"]


RAW = {"name": "raw", "source": "sender"}
LAST = RAW | {"positions": "last", "source_positions": "last", "prompt": "question_only"}
LONG_ROWS = [ROWS[0] | {"question": LONG}, ROWS[1]]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"conditions": ["no_inject"], "decoding": {"max_new_tokens": 9000}}, "context window"),
        (
            {"conditions": [LAST], "rows": LONG_ROWS, "decoding": {"max_new_tokens": 9000}},
            "context window",
        ),
        (
            {
                "conditions": ["nl_relay"],
                "decoding": {"max_new_tokens": 3, "relay_max_new_tokens": 9000},
            },
            "context window",
        ),
        (
            {
                "conditions": [{"name": "talk", "source": "none", "prompt": "debate", "rounds": 2}],
                "decoding": {"max_prompt_tokens": 30, "relay_max_new_tokens": 20},
            },
            "cannot be cut at 30",
        ),
        ({"conditions": [RAW], "prompts": {"sender": "{context}"}}, "position by position"),
        ({"conditions": [RAW | {"positions": [900], "source_positions": "last"}]}, "900"),
        (
            {"conditions": [RAW | {"prompt": "question_only"}]},
            "does not see the context",
        ),
        (
            {
                "conditions": [LAST | {"positions": "question", "source_positions": "question"}],
                "prompts": {"sender": "Q: {question}\nContext: {context}"},
            },
            "no question to write at",
        ),
    ],
)
def test_the_doctor_refuses_what_the_run_refuses(
    fields: dict[str, Any], words: str, folder: Path, tmp_path: Path
) -> None:
    experiment = declared(folder, **fields)
    with pytest.raises(StatebridgeError, match=words) as caught:
        run_experiment(experiment, tmp_path / "run")
    found = prompts(experiment)
    assert not found.ready
    # A run names a folder's model by the folder alone.
    assert found.detail.replace(f"{folder}/", "") == str(caught.value)


def test_it_says_how_long_each_prompt_in_use_is(folder: Path) -> None:
    debate = {"name": "talk", "source": "none", "prompt": "debate", "rounds": 2}
    found = prompts(
        declared(folder, conditions=["no_inject", "nl_relay", LAST, debate], sender_checks=True)
    )
    assert found.ready, found.detail
    task, question, relay, *others = found.detail.split("; ")
    assert [part.split(":")[0] for part in (task, question, relay)] == [
        "task",
        "question_only",
        "relay, to the sender",
    ]
    assert others == ["debate: room for every round", "sender_checks: answers fit the sender"]


def test_a_layer_that_is_not_there_is_one_mistake(folder: Path) -> None:
    experiment = declared(
        folder, conditions=["no_inject"], receiver={"model": str(folder / "receiver"), "layer": 9}
    )
    assert [check.what for check in check_readiness(experiment) if not check.ready] == ["layers"]
