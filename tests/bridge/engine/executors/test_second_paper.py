"""The methods of arXiv 2501.14082 from an experiment to its report, on a tiny pair."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from statebridge.engine.run_experiment import run_experiment
from statebridge.errors import PairError
from statebridge.experiment import parse_experiment
from statebridge.models.families import shape_from_config
from statebridge.models.pair import Pair
from statebridge.records import ResultSet
from statebridge.report import write_report
from statebridge.results.cost import condition_costs
from statebridge.results.run_results import read_run
from statebridge.stats import Settings, compare
from statebridge.validation import validate
from statebridge.validation.expectation import run_expectation
from tests.bridge.engine.tiny_experiment import engine_pair, mixed_pair
from tests.tiny_models import tiny_tokenizer

METHODS = ["activations", "debate"]
DECODING: dict[str, Any] = {
    "max_new_tokens": 4,
    "relay_max_new_tokens": 4,
    "max_prompt_tokens": 500,
}


def _pair() -> Pair:
    """GPT-NeoX to Llama, another width, a chat template each."""
    pair = engine_pair(mixed_pair())
    for model in (pair.sender, pair.receiver):
        model.tokenizer.chat_template = "User: {{ messages[0]['content'] }}\nBot:"
    return pair


def _run(out: Path, **fields: Any) -> ResultSet:
    declared = {
        "name": "second",
        "sender": {"model": "tiny-sender", "layer": 1},
        "receiver": {"model": "tiny-receiver", "layer": 3},
        "dataset": {"generate": {"task": "countries", "rows": 8, "seed": 2}},
        "conditions": METHODS,
        "seeds": [42, 7],
        "prompts": {"chat": "required", "sender": "{context}"},
        "decoding": DECODING,
        **fields,
    }
    run_experiment(parse_experiment(json.dumps(declared)), out, pair=_pair())
    return read_run(out)


@pytest.fixture(scope="module")
def greedy(tmp_path_factory: pytest.TempPathFactory) -> ResultSet:
    return _run(tmp_path_factory.mktemp("greedy") / "run")


def test_a_run_states_shapes_and_what_was_said(greedy: ResultSet) -> None:
    pair = _pair()
    assert greedy.manifest is not None
    for side in ("sender", "receiver"):
        config = getattr(pair, side).module.config.to_dict()
        assert greedy.manifest["pair"][side]["shape"] == asdict(shape_from_config(config))
    for name, count in (("private_relay", 1), ("debate", 2)):
        cell = greedy.cell(name)
        assert cell is not None
        for row in cell.lanes:
            assert row.turns is not None
            assert len(row.turns) == count
            assert row.turns[0].model == "sender"
            assert row.turns[0].text == row.relay
    assert all(row.task_correct is not None for cell in greedy.cells for row in cell.lanes)


@pytest.mark.slow
def test_its_report_has_costs_and_it_validates(greedy: ResultSet, tmp_path: Path) -> None:
    assert len(condition_costs(greedy)) == 7
    write_report(greedy, tmp_path, formats=["md"])
    text = (tmp_path / "report.md").read_text("utf-8")
    assert "### What the methods cost" in text
    assert "activation_replace took, of the operations of debate, " in text
    assert (tmp_path / "figures" / "accuracy_against_cost.svg").is_file()
    assert validate(greedy, run_expectation(greedy)).passed


def test_a_sampled_run_is_compared_seed_by_seed(tmp_path: Path) -> None:
    sampled = _run(
        tmp_path / "run",
        decoding=DECODING | {"sample": {"temperature": 0.8, "top_p": 0.9}},
        conditions=["question_only", "skyline", "private_relay", "private_last_self"],
    )
    assert {cell.seed for cell in sampled.cells} == {42, 7}
    # The states written back are the old ones and the random numbers the same: so is the text.
    for seed in (42, 7):
        own, floor = sampled.cell("private_last_self", seed), sampled.cell("question_only", seed)
        assert own is not None
        assert floor is not None
        for row, other in zip(own.lanes, floor.lanes, strict=True):
            assert row.token_ids == other.token_ids
            assert row.prediction_changed is False
    comparison = compare(sampled, settings=Settings(permutations=99))
    found = [d for d in comparison.differences if d.condition == "skyline"]
    assert found
    assert {len(d.seeds) for d in found} == {2}


@pytest.mark.slow
def test_a_run_goes_on_where_it_stopped_with_the_same_text(tmp_path: Path) -> None:
    fields: dict[str, Any] = {
        "decoding": DECODING | {"sample": {"temperature": 1.3}},
        "conditions": ["question_only", "debate"],
        "execution": {"max_lanes": 4},
    }
    whole = _run(tmp_path / "whole", **fields)
    rows = tmp_path / "whole" / "rows.jsonl"
    content = rows.read_bytes()
    rows.write_bytes(content[: len(content) // 2])
    again = _run(tmp_path / "whole", **fields)
    assert rows.read_bytes() == content
    assert [c.lanes for c in again.cells] == [c.lanes for c in whole.cells]


def test_a_tokenizer_without_a_template_is_one_line(tmp_path: Path) -> None:
    assert tiny_tokenizer().chat_template is None
    pair = _pair()
    pair.receiver.tokenizer.chat_template = None
    pair.sender.tokenizer.chat_template = None
    declared = {
        "name": "x",
        "sender": {"model": "tiny-sender", "layer": 0},
        "receiver": {"model": "tiny-receiver", "layer": 0},
        "dataset": {"generate": {"task": "countries", "rows": 2}},
        "conditions": METHODS,
        "prompts": {"chat": "required"},
    }
    with pytest.raises(PairError, match="has no chat template") as refused:
        run_experiment(parse_experiment(json.dumps(declared)), tmp_path / "no", pair=pair)
    assert "\n" not in str(refused.value)
