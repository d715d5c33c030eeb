"""Donors, noise and spans of the private setting: what they are, and that they never move."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from statebridge.channels.inputs.draws import choose_donors, noise_of
from statebridge.channels.operators import position_mask
from statebridge.models.token_batch import TokenBatch
from statebridge.runs.plan import PromptTable, shared_end
from tests.bridge.engine.tiny_experiment import (
    dataset_rows,
    engine_pair,
    neox_pair,
    random_translator,
    run_engine,
)
from tests.reference.points import chosen_donors, naive_shared_end, places_of
from tests.tiny_models import mixed_rows, tiny_tokenizer

ROWS = dataset_rows(mixed_rows(20, seed=6))
PRIVATE = [
    "private_last_random",
    "private_last_matched_shuffled",
    "private_question_shuffled",
    "private_placeholder_shuffled",
]
RANDOM_SLOTS = {
    "name": "slots_random",
    "source": "random",
    "match_norm": True,
    "prompt": "placeholder",
    "positions": "placeholder",
}

lengths_lists = st.lists(st.integers(1, 30), min_size=1, max_size=25)
# Few words, so that prompts end alike now and then.
prompts = st.lists(st.integers(0, 2), min_size=1, max_size=8).map(tuple)


def _ids(count: int) -> list[str]:
    # Not in the order of the rows: "row_10" comes before "row_2".
    return [f"row_{i}" for i in range(count)]


def _run(rows: Any, **fields: Any) -> Any:
    translators = {seed: random_translator(24, 32, seed=seed) for seed in (42, 123)}
    fields = {"conditions": [*PRIVATE, RANDOM_SLOTS], "decoding": {"max_new_tokens": 3}, **fields}
    return run_engine(engine_pair(neox_pair()), rows, translators, **fields)


# ---------------------------------------------------------------- donors


def test_a_row_beside_its_own_answer_alone_gets_another_nearby() -> None:
    answers = [{"a"}, {"a"}, {"b"}, {"c"}]
    donors = choose_donors([5, 5, 7, 7], _ids(4), 42, "derangement", answers)
    assert donors.of_row == (1, 0, 3, 2)
    assert donors.nearest.keys() == {0, 1}
    assert sorted(donors.nearest.values()) == [2, 3]
    assert not donors.lone


@given(lengths=lengths_lists, seed=st.integers(0, 1000), rng=st.sampled_from(["published"]))
def test_nearest_donors_are_the_oracles(lengths: list[int], seed: int, rng: Any) -> None:
    ids = _ids(len(lengths))
    donors = choose_donors(lengths, ids, seed, rng)
    found = {i: donors.nearest.get(i, donors.of_row[i]) for i in range(len(lengths))}
    if len(lengths) == 1:
        assert not donors.nearest
        return
    assert found == chosen_donors(lengths, ids, seed, "nearest")
    assert all(row != donor for row, donor in found.items())
    assert donors.nearest.keys() == donors.lone


@given(lengths=lengths_lists, order=st.randoms(use_true_random=False))
def test_nearest_donors_do_not_move_when_rows_are_reordered(
    lengths: list[int], order: random.Random
) -> None:
    ids = _ids(len(lengths))
    before = choose_donors(lengths, ids, 42, "per-row")
    places = list(range(len(lengths)))
    order.shuffle(places)
    moved = [ids[i] for i in places]
    after = choose_donors([lengths[i] for i in places], moved, 42, "per-row")
    assert {moved[i]: moved[d] for i, d in after.nearest.items()} == {
        ids[i]: ids[d] for i, d in before.nearest.items()
    }


@pytest.mark.slow
@pytest.mark.parametrize("rng", ["per-row", "published"])
def test_no_row_is_its_own_donor_and_lone_rows_are_left_out(rng: str) -> None:
    run = _run(ROWS, rng=rng, decode=False)
    again = _run(ROWS, rng=rng, decode=False)
    assert run.rows == again.rows
    lone = run.workload.plan.donors[42].lone
    assert lone, "no row is alone, so this says nothing"
    counts = dict.fromkeys(PRIVATE, 0)
    for (cell, _), row in run.rows.items():
        name = cell.removesuffix("/seed42").removesuffix("/seed123")
        if name.endswith("_shuffled"):
            counts[name] += 1
            assert row.donor_row_id != row.row_id
            assert row.donor_self_fallback is False
    assert counts["private_question_shuffled"] == 2 * len(ROWS)
    assert counts["private_placeholder_shuffled"] == 2 * (len(ROWS) - len(lone))


def test_a_single_row_has_no_donor() -> None:
    run = _run(ROWS[:1], decode=False)
    names = {name.split("/")[0] for name, _ in run.rows}
    assert names == {"private_last_random", "slots_random"}


# ---------------------------------------------------------------- noise


def test_noise_has_the_length_of_the_prompt_that_is_read() -> None:
    for rng in ("per-row", "published"):
        work = _run(ROWS[:5], rng=rng, decode=False).workload
        for cell in work.plan.cells:
            if cell.condition.source == "random":
                template = "Q: {q}\nA:"
                if cell.condition.prompt == "placeholder":
                    template = "Context: {c}\nQ: {q}\nA:"
                for index, row in enumerate(ROWS[:5]):
                    text = template.format(c=row.context, q=row.question)
                    length = len(tiny_tokenizer()(text)["input_ids"])
                    assert work.noise_of(cell, index).shape == (length, 32)


def test_draws_are_the_same_in_a_subset_or_another_order() -> None:
    order = list(ROWS)
    random.Random(3).shuffle(order)
    whole, part, moved = _run(ROWS).rows, _run(ROWS[4:9]).rows, _run(order).rows
    assert moved.keys() == whole.keys()
    for key, row in moved.items():
        assert row.token_ids == whole[key].token_ids
        assert row.donor_row_id == whole[key].donor_row_id
    drawn = [key for key in part if "random" in key[0]]
    assert len(drawn) == 2 * 2 * 5
    for key in drawn:
        assert part[key].token_ids == whole[key].token_ids
        assert part[key].translated_norm_mean == pytest.approx(whole[key].translated_norm_mean)


def test_per_row_noise_depends_on_row_and_seed_alone() -> None:
    work = _run(ROWS[:3], decode=False).workload
    (cell,) = [c for c in work.plan.cells if c.name == "private_last_random/seed42"]
    lengths = [len(ids) for ids in work.plan.prompts.read("question_only")]
    alone = noise_of("per-row", 42, [ROWS[1].row_id], lengths[1:2], 32)
    assert torch.equal(work.noise_of(cell, 1), alone(0))


# ---------------------------------------------------------------- spans


@given(first=prompts, second=prompts)
def test_what_two_prompts_share_at_their_end(first: Any, second: Any) -> None:
    assert shared_end(first, second) == naive_shared_end(first, second)
    assert shared_end(first, second) == shared_end(second, first)
    assert shared_end(first, first) == len(first)


@given(data=st.data(), sent=st.lists(prompts, min_size=1, max_size=4))
def test_spans_are_the_places_that_the_words_name(data: Any, sent: list[Any]) -> None:
    received = [data.draw(prompts) for _ in sent]
    # Slots of the placeholder prompt: a part of it that is not empty.
    slots = []
    for ids in received:
        first = data.draw(st.integers(0, len(ids) - 1))
        slots.append(list(range(first, data.draw(st.integers(first, len(ids) - 1)) + 1)))
    spans = tuple(
        (places[0] - len(ids), places[-1] + 1 - len(ids))
        for places, ids in zip(slots, received, strict=True)
    )
    private: Any = {"question_only": tuple(received), "placeholder": tuple(received)}
    table = PromptTable(tuple(sent), tuple(received), private, spans)
    batch = TokenBatch.pack(received, pad_id=0)
    width = batch.ids.shape[1]
    for prompt, positions in (
        ("question_only", "question"),
        ("placeholder", "question"),
        ("placeholder", "placeholder"),
    ):
        found = [table.span(prompt, positions, row) for row in range(len(sent))]
        assert None not in found
        mask = position_mask(batch, positions, found)
        for row, ids in enumerate(received):
            own_slots = slots[row] if prompt == "placeholder" else []
            naive = places_of(positions, ids, sent[row], own_slots)
            padding = width - len(ids)
            assert mask[row].nonzero()[:, 0].tolist() == [padding + place for place in naive]
    assert table.span("question_only", "last", 0) is None


def test_a_context_ending_in_the_placeholder_is_no_question() -> None:
    rows = [row for row in dataset_rows(mixed_rows(5)) if row.context.endswith(".")]
    run = run_engine(
        engine_pair(neox_pair()),
        rows,
        {},
        seeds=[1],
        conditions=[
            {
                "name": "c",
                "source": "zero",
                "prompt": "placeholder",
                "positions": "question",
            }
        ],
        prompts={"placeholder_token": ".", "task": "{context} {question}\nA:"},
        decode=False,
    )
    prompts_read = run.workload.plan.prompts
    for row, declared in enumerate(rows):
        question = tiny_tokenizer()(f" {declared.question}\nA:")["input_ids"]
        naive = naive_shared_end(prompts_read.sender[row], prompts_read.read("placeholder")[row])
        assert naive > len(question), "the context does not end in the placeholder"
        assert prompts_read.span("placeholder", "question", row) == (-len(question), 0)
