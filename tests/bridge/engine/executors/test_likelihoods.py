"""Log-probabilities beside the gold answer's, held to the oracle, which scores one at a time."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch

from statebridge.engine.executors.measures import GoldMeasures
from statebridge.engine.executors.other_measures import other_measures
from statebridge.engine.planning.other_answers import end_ids, other_answers
from statebridge.errors import ExperimentError
from statebridge.experiment import parse_experiment
from statebridge.records import DatasetRow
from statebridge.runs.plan import OtherAnswers
from tests.bridge.engine.tiny_experiment import (
    EngineRun,
    dataset_rows,
    engine_pair,
    neox_pair,
    random_translator,
    run_engine,
)
from tests.reference.decoding import answer_ids, encode, gold_measures
from tests.reference.formulas import task_prompt
from tests.reference.oracle import run_cell
from tests.tiny_models import mixed_rows

CLOSE = {"rel": 1e-5, "abs": 2e-5}  # as for the gold answer; see test_parity
ROWS = mixed_rows(3, seed=5)
ALIASES = ("Rio", "Rio Japan", "a long name of several words")
OPTIONS = ("Oslo", "Lima in Peru")
CELLS = ("no_inject", "replace", "nl_relay")
ALL = {"aliases": True, "options": True, "end": True}
DECODING = {"max_new_tokens": 3, "relay_max_new_tokens": 5}


def _rows() -> list[DatasetRow]:
    """The first row has a single name, the last no option."""
    rows = dataset_rows(ROWS)
    named = {"aliases": "|".join(ALIASES), "options": "|".join(OPTIONS)}
    return [
        replace(rows[0], attributes={"options": named["options"]}),
        *(replace(row, attributes=named) for row in rows[1:-1]),
        replace(rows[-1], attributes={"aliases": named["aliases"]}),
    ]


@cache
def _expected(condition: str, answer: str | None) -> dict[str, float]:
    """The oracle's log-probability of a text in the place of each row's answer."""
    pair = neox_pair()
    translator = random_translator(24, 32, seed=42)
    rows = [row if answer is None else {**row, "answer": answer} for row in ROWS]
    seeded = (42, translator) if condition == "replace" else (None, None)
    return {
        row.row_id: row.gold_logprob or math.nan
        for row in run_cell(pair, rows, condition, *seeded, decode=False, **DECODING)
    }


def _run(**fields: Any) -> EngineRun:
    declared: dict[str, Any] = {
        "conditions": list(CELLS),
        "seeds": [42],
        "decoding": DECODING,
        "likelihoods": ALL,
    }
    translators = {42: random_translator(24, 32, seed=42)}
    return run_engine(engine_pair(neox_pair()), _rows(), translators, **declared | fields)


@pytest.mark.slow
@pytest.mark.parametrize("path", ["shared", "plain"])
def test_each_text_is_scored_as_the_oracle_does(path: str) -> None:
    found = _run(execution={"path": path})
    for (cell, row_id), lane in found.rows.items():
        condition = cell.split("/")[0]
        place = [row["id"] for row in ROWS].index(row_id)
        wanted = {name: _expected(condition, name)[row_id] for name in (*ALIASES, *OPTIONS)}
        aliases = {} if place == 0 else {name: wanted[name] for name in ALIASES}
        options = {} if place == 2 else {name: wanted[name] for name in OPTIONS}
        assert lane.gold_logprob == pytest.approx(_expected(condition, None)[row_id], **CLOSE)
        assert lane.alias_logprobs == pytest.approx(aliases, **CLOSE)
        assert lane.option_logprobs == pytest.approx(options, **CLOSE)
        # "Rio Japan" begins with "Rio", and is a part of its probability.
        apart = [lane.gold_logprob, *(aliases[name] for name in ALIASES[::2] if aliases)]
        total = math.log(sum(math.exp(value) for value in apart if value is not None))
        assert lane.answer_logprob == pytest.approx(total, **CLOSE)


@pytest.mark.parametrize("path", ["shared", "plain"])
def test_the_end_is_any_token_that_ends_an_answer(path: str) -> None:
    found = _run(execution={"path": path}, conditions=["no_inject"], likelihoods={"end": True})
    pair = neox_pair()
    tokens = range(len(pair.tokenizer))
    lines = {i for i in tokens if pair.tokenizer.decode([i])[:1] in ("\n", "\r")}
    ends = lines | {pair.tokenizer.eos_token_id}
    assert set(end_ids(found.workload.pair.receiver)) == ends
    for row in ROWS:
        prompt = task_prompt(row)
        answer = answer_ids(pair.tokenizer, prompt, row["answer"])
        ids = encode(pair.tokenizer, prompt)

        def logprob(text: list[int], ids: list[int] = ids) -> float:
            return gold_measures(pair.receiver, pair.receiver_layer, ids, text, None).logprob

        here = [logprob([*answer, token]) - logprob(answer) for token in sorted(ends)]
        lane = found.rows["no_inject", row["id"]]
        expected = math.log(sum(map(math.exp, here)))
        assert lane.gold_end_logprob == pytest.approx(expected, **CLOSE)
        assert lane.alias_logprobs is lane.option_logprobs is lane.answer_logprob is None


@pytest.mark.parametrize("path", ["shared", "plain"])
def test_the_tokens_of_an_answer_add_up_to_it(path: str) -> None:
    found = _run(execution={"path": path}, conditions=["no_inject"], likelihoods={"tokens": True})
    pair = neox_pair()
    for row in ROWS:
        prompt = task_prompt(row)
        answer, ids = (
            answer_ids(pair.tokenizer, prompt, row["answer"]),
            encode(pair.tokenizer, prompt),
        )
        # The oracle scores each beginning of the answer as a text of its own.
        whole = [
            gold_measures(pair.receiver, pair.receiver_layer, ids, answer[: n + 1], None).logprob
            for n in range(len(answer))
        ]
        each = [after - before for after, before in zip(whole, [0.0, *whole], strict=False)]
        lane = found.rows["no_inject", row["id"]]
        texts, values = zip(*(lane.gold_tokens or ()), strict=True)
        assert list(texts) == [pair.tokenizer.decode([token]) for token in answer]
        assert list(values) == pytest.approx(each, **CLOSE)
        assert sum(values) == pytest.approx(lane.gold_logprob)


def test_what_is_not_asked_for_changes_nothing() -> None:
    plain, more = _run(likelihoods=None), _run()
    for name, lane in plain.rows.items():
        assert more.rows[name].token_ids == lane.token_ids
        assert more.rows[name].gold_logprob == lane.gold_logprob
        assert lane.alias_logprobs is lane.gold_end_logprob is lane.gold_tokens is None


def _experiment(**likelihoods: Any) -> Any:
    side = {"model": "m", "layer": 1}
    fields = {
        "name": "n",
        "sender": side,
        "receiver": side,
        "dataset": {"path": "rows.jsonl"},
        "conditions": ["no_inject"],
        "likelihoods": likelihoods,
    }
    return parse_experiment(json.dumps(fields))


def test_decoys_are_wrong_answers_of_the_same_kind() -> None:
    towns = ("Oslo", "Lima", "the Oslo", "Rome", "5")
    rows = [
        DatasetRow(f"r{i}", "", "q", town, {"answer_type": "number" if town == "5" else "entity"})
        for i, town in enumerate(towns)
    ]
    rows.append(
        DatasetRow("r9", "", "q", "Oslo", {"options": "Oslo|Bern", "aliases": "Kristiania"})
    )
    found = other_answers(_experiment(options=True, decoys=2), rows, 6)
    assert set(found[0].wrong) == {"Lima", "Rome"}
    assert set(found[1].wrong) == {"Oslo", "Rome"}
    assert len(found[4].wrong) == 2  # no other number: whatever is wrong
    assert found[5] == OtherAnswers((), ("Bern",))
    assert other_answers(_experiment(options=True, decoys=2), rows, 2) == found[:2]
    with pytest.raises(ExperimentError, match=r"likelihoods.options: no row has any"):
        other_answers(_experiment(options=True), rows[:5], 5)
    assert other_answers(_experiment(end=True), rows, 6) == ()


def test_a_channel_that_leaves_them_out_is_named() -> None:
    plan = _run(conditions=["no_inject"]).workload.plan
    gold = GoldMeasures(-1.0, (1,), (-1.0,), 1, 0.0)
    with pytest.raises(ExperimentError, match="the channel gave 0 other answers"):
        other_measures(
            plan, [1], [(5,)], [()], [gold], iter([torch.zeros(1, 2, 500), torch.zeros(1, 2, 500)])
        )
