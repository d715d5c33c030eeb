"""Prompt lengths, donors and rows of the published run, with its tokenizer and its data."""

from __future__ import annotations

import json
from collections import Counter
from functools import cache
from typing import Any

import nnsight
import pytest
from transformers import AutoTokenizer

from statebridge.channels.inputs.token_ids import tokenise
from statebridge.channels.workload import Workload
from statebridge.engine.planning.groups import grouped
from statebridge.engine.planning.prepare import prepare
from statebridge.experiment import parse_experiment
from statebridge.models.pair import Pair
from statebridge.models.traced_model import TracedModel
from statebridge.tasks.declared_rows import resolve_dataset
from tests.bridge.engine.tiny_experiment import random_translator
from tests.shared_data import SHARED, needs_shared
from tests.tiny_models import tiny_neox

pytestmark = needs_shared

DATA = SHARED / "multihop" / "clean_eval.jsonl"
SHA256 = "504e077cf17433e22967c86e98d321532d4e803dbe24d96af14c7e8ecdd0dcbb"
SEEDS = (42, 123, 456)


@cache
def _workload() -> Workload:
    """The published experiment made ready; only the models are tiny, and never run."""
    tokenizer = AutoTokenizer.from_pretrained(SHARED / "tokenizer")

    def side(seed: int, hidden: int) -> TracedModel:
        module = tiny_neox(seed, layers=2, hidden=hidden, heads=2, vocab=50304, end_share=0)
        model = nnsight.TransformersModel(module, task="text-generation", tokenizer=tokenizer)
        return TracedModel.wrap(model, tokenizer, 0.67)

    experiment = parse_experiment(
        f"""
name: published
sender: {{model: a, layer: 0.67}}
receiver: {{model: b, layer: 0.67}}
dataset: {{path: {json.dumps(str(DATA))}, sha256: {SHA256}}}
translators: {{42: a.pt, 123: b.pt, 456: c.pt}}
conditions: published-strict
rng: published
"""
    )
    rows, digest = resolve_dataset(experiment.dataset)
    assert digest == SHA256
    translators = {seed: random_translator(8, 12, seed) for seed in SEEDS}
    return prepare(experiment, Pair(side(1, 8), side(2, 12)), rows, translators)


@cache
def _published(name: str) -> list[dict[str, Any]]:
    content = json.loads((SHARED / "published" / f"h1_{name}.json").read_text(encoding="utf-8"))
    samples: list[dict[str, Any]] = content["per_sample"]
    return samples


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(p.stem[3:] for p in (SHARED / "published").glob("h1_*")))
def test_all_396_prompts_have_the_published_length_and_gold(name: str) -> None:
    workload = _workload()
    samples = _published(name)
    assert len(samples) == len(workload.plan.rows) == 396
    for index, (row, sample) in enumerate(zip(workload.plan.rows, samples, strict=True)):
        assert row.row_id == sample["sample_id"]
        assert row.answer == sample["gold"]
        assert workload.plan.prompts.ids_match(index)
        if "relay" not in sample:
            assert len(workload.plan.prompts.receiver[index]) == sample["prompt_len_b"]
        if "prompt_len_a" in sample:
            assert len(workload.plan.prompts.sender[index]) == sample["prompt_len_a"]


def test_relay_prompts_have_the_published_lengths() -> None:
    workload = _workload()
    samples = _published("nl_relay_fwd_deterministic")
    rows = range(396)
    prompts, data = workload.plan.experiment.prompts, [workload.plan.rows[row] for row in rows]
    row_ids = [row.row_id for row in data]
    asked = [prompts.relay_sender.format(context=r.context, question=r.question) for r in data]
    sent = tokenise(workload.pair.sender, asked, row_ids, 256)
    assert [len(ids) for ids in sent] == [sample["sender_prompt_len"] for sample in samples]
    relayed = [
        prompts.relay_receiver.format(relay=sample["relay"], question=r.question, context=r.context)
        for sample, r in zip(samples, data, strict=True)
    ]
    received = tokenise(workload.pair.receiver, relayed, row_ids, 256)
    assert [len(ids) for ids in received] == [sample["prompt_len_b"] for sample in samples]


def test_the_lengths_are_as_the_protocol_states_them() -> None:
    lengths = Counter(_workload().plan.prompts.lengths)
    assert sum(length * count for length, count in lengths.items()) / 396 == pytest.approx(
        47.74, abs=0.005
    )
    assert len(lengths) == 56
    assert sum(count == 1 for count in lengths.values()) == 13
    assert max(lengths) == 89


@pytest.mark.parametrize("seed", SEEDS)
def test_donors_are_a_derangement_with_thirteen_fall_backs(seed: int) -> None:
    workload = _workload()
    donors = workload.plan.donors[seed]
    lengths = workload.plan.prompts.lengths
    assert sorted(donors.of_row) == list(range(396))
    assert all(lengths[donor] == lengths[row] for row, donor in enumerate(donors.of_row))
    alone = {row for row, donor in enumerate(donors.of_row) if row == donor}
    assert alone == donors.lone
    assert len(alone) == 13


def test_the_strict_control_runs_383_rows() -> None:
    workload = _workload()
    rows = {
        cell.name: sum(workload.plan.included(cell, row) for row in range(396))
        for cell in workload.plan.cells
    }
    strict = {name: n for name, n in rows.items() if "strict" in name}
    assert set(strict.values()) == {383}
    assert len(strict) == 3
    assert {n for name, n in rows.items() if name not in strict} == {396}
    assert len(rows) == 25
    for cell in workload.plan.cells:
        if "strict" in cell.name:
            kept = [row for row in range(396) if workload.plan.included(cell, row)]
            assert all(workload.plan.donor(cell, row) != row for row in kept)
    assert sum(grouped(workload.plan, 128).lane_counts) == 22 * 396 + 3 * 383


def test_every_answer_stands_in_its_context_and_has_tokens() -> None:
    workload = _workload()
    assert all(row.answer in row.context for row in workload.plan.rows)
    assert all(1 <= len(answer) <= 16 for answer in workload.plan.answers["task"])
    tokenizer = workload.pair.receiver.tokenizer
    texts = [tokenizer.decode(list(answer)) for answer in workload.plan.answers["task"]]
    assert texts == [f" {row.answer}" for row in workload.plan.rows]
