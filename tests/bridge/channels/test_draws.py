"""Donors and noise: the published streams to the bit, and per-row draws that never move."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from statebridge.channels.inputs.draws import choose_donors, noise_of
from statebridge.experiment.random_streams import row_key, same_answer
from statebridge.records import DatasetRow
from tests.bridge.engine.tiny_experiment import (
    SEEDS,
    dataset_rows,
    engine_pair,
    neox_pair,
    random_translator,
    run_engine,
)
from tests.reference.draws import published_donors, published_noise
from tests.tiny_models import mixed_rows

lengths_lists = st.lists(st.integers(1, 6), min_size=1, max_size=60)
seeds = st.integers(0, 2**63 - 1)


def _ids(count: int) -> list[str]:
    return [f"row_{i}" for i in range(count)]


# ---------------------------------------------------------------- donors


@given(lengths=lengths_lists, seed=seeds)
def test_published_donors_equal_the_references(lengths: list[int], seed: int) -> None:
    donors = choose_donors(lengths, _ids(len(lengths)), seed, "published")
    free = published_donors(lengths, seed, strict=False)
    assert dict(enumerate(donors.of_row)) == free
    # Dropping lone rows first must leave the others' donors as they are.
    strict = published_donors(lengths, seed, strict=True)
    assert {i: d for i, d in free.items() if i not in donors.lone} == strict


@given(
    lengths=lengths_lists,
    seed=seeds,
    rng=st.sampled_from(["published", "per-row", "derangement"]),
)
def test_donors_are_derangements_of_equal_lengths(lengths: list[int], seed: int, rng: Any) -> None:
    donors = choose_donors(lengths, _ids(len(lengths)), seed, rng)
    for row, donor in enumerate(donors.of_row):
        assert lengths[donor] == lengths[row]
        assert (donor == row) == (row in donors.lone)
    assert donors.lone == {i for i, n in enumerate(lengths) if lengths.count(n) == 1}
    if rng != "per-row":  # each row gives once
        assert sorted(donors.of_row) == list(range(len(lengths)))


@given(lengths=lengths_lists, seed=seeds, order=st.randoms(use_true_random=False))
def test_per_row_donors_do_not_move_when_rows_are_reordered(
    lengths: list[int], seed: int, order: random.Random
) -> None:
    ids = _ids(len(lengths))
    before = choose_donors(lengths, ids, seed, "per-row")
    by_id = {ids[i]: ids[d] for i, d in enumerate(before.of_row)}
    places = list(range(len(lengths)))
    order.shuffle(places)
    moved_ids = [ids[i] for i in places]
    after = choose_donors([lengths[i] for i in places], moved_ids, seed, "per-row")
    assert {moved_ids[i]: moved_ids[d] for i, d in enumerate(after.of_row)} == by_id


answer_lists = st.lists(
    st.tuples(st.integers(1, 3), st.sets(st.sampled_from("abcdef"), min_size=1, max_size=2)),
    min_size=2,
    max_size=40,
)


def _same(answers: Sequence[set[str]], pairs: Iterable[tuple[int, int]]) -> int:
    return sum(not answers[row].isdisjoint(answers[donor]) for row, donor in pairs)


@given(rows=answer_lists, seed=seeds)
def test_a_derangement_keeps_answers_apart_where_it_can(
    rows: list[tuple[int, set[str]]], seed: int
) -> None:
    lengths, answers = [length for length, _ in rows], [names for _, names in rows]
    donors = choose_donors(lengths, _ids(len(rows)), seed, "derangement", answers)
    for length in set(lengths):
        group = [row for row, own in enumerate(lengths) if own == length]
        found = _same(answers, ((row, donors.of_row[row]) for row in group))
        # The fewest: an assignment whose cost is the number of shared answers, by scipy.
        cost = np.array(
            [[1e6 if a == b else _same(answers, [(a, b)]) for b in group] for a in group]
        )
        fewest = cost[linear_sum_assignment(cost)].sum()
        largest = max(map(len, same_answer(group, answers)))
        if len(group) > 1 and all(len(names) == 1 for names in answers):
            assert found == fewest == max(0, 2 * largest - len(group))
        elif len(group) > 1:  # aliases link answers that share no name; then it may miss one
            assert fewest <= found <= max(0, 2 * largest - len(group))


@given(rows=answer_lists, seed=seeds, order=st.randoms(use_true_random=False))
def test_a_derangement_does_not_move_when_rows_are_reordered(
    rows: list[tuple[int, set[str]]], seed: int, order: random.Random
) -> None:
    def chosen(places: Sequence[int]) -> dict[str, tuple[str, str | None]]:
        ids = [f"row_{place}" for place in places]
        lengths, answers = zip(*(rows[place] for place in places), strict=True)
        found = choose_donors(lengths, ids, seed, "derangement", answers)
        nearest = {i: ids[donor] for i, donor in found.nearest.items()}
        return {ids[i]: (ids[d], nearest.get(i)) for i, d in enumerate(found.of_row)}

    places = list(range(len(rows)))
    before = chosen(places)
    order.shuffle(places)
    assert chosen(places) == before


def test_lone_rows_give_once_and_differ_in_the_answer() -> None:
    lengths = list(range(10, 50))
    answers = [{"yes"} if i % 3 else {"no"} for i in range(40)]
    found = choose_donors(lengths, _ids(40), 7, "derangement", answers)
    assert sorted(found.nearest) == list(range(40))
    assert len(set(found.nearest.values())) == 40
    # 26 of 40 rows say yes: 12 must get another yes.
    assert _same(answers, found.nearest.items()) == 12
    apart = choose_donors(lengths, _ids(40), 7, "derangement")
    assert all(abs(lengths[row] - lengths[donor]) == 1 for row, donor in apart.nearest.items())


def test_a_derangement_mixes_the_answers() -> None:
    answers = [{str(i % 20)} for i in range(400)]
    found = choose_donors([5] * 400, _ids(400), 3, "derangement", answers).of_row
    pairs = Counter((min(answers[row]), min(answers[donor])) for row, donor in enumerate(found))
    # 400 pairs over 380 cells, about one each; the arrangement before the swaps has 20 of 20.
    assert max(pairs.values()) <= 8
    uses = Counter(choose_donors([5] * 400, _ids(400), 3, "per-row", answers).of_row)
    assert max(uses.values()) > 1


def test_seeds_and_rows_have_keys_of_their_own() -> None:
    keys = {row_key(seed, row) for seed in (1, 11, 42, 123) for row in ("1", "a", "row_1", "")}
    assert len(keys) == 16
    # The separator: seed 1 with row "1|x" is not seed 11 with row "|x".
    assert row_key(1, "1|x") != row_key(11, "|x")
    assert all(0 <= key < 2**63 for key in keys)
    # The draws of a published result must be the same on every machine, for ever.
    assert row_key(42, "mh_clean_000000") == 567000244518999811


def test_different_seeds_choose_different_donors() -> None:
    lengths = [5] * 50
    for rng in ("published", "per-row", "derangement"):
        chosen: Any = rng
        first, second = (choose_donors(lengths, _ids(50), s, chosen).of_row for s in (42, 123))
        assert sum(a != b for a, b in zip(first, second, strict=True)) > 30


# ---------------------------------------------------------------- noise


@given(
    lengths=st.lists(st.integers(1, 5), min_size=1, max_size=70),
    order=st.lists(st.integers(0, 69), max_size=25),
    seed=st.integers(0, 1000),
)
def test_published_noise_at_random_places_equals_the_stream(
    lengths: list[int], order: list[int], seed: int
) -> None:
    width = 3
    stream = [draw[0] for draw in published_noise(lengths, width, seed)]
    noise = noise_of("published", seed, _ids(len(lengths)), lengths, width)
    for place in order:
        row = place % len(lengths)
        assert torch.equal(noise(row), stream[row])
        assert torch.equal(noise(row), stream[row]), "a second look gives another draw"


def test_published_noise_is_the_published_call() -> None:
    # One generator, one randn((1, length, width)) a row: the shape decides how it is filled.
    generator = torch.Generator().manual_seed(42)
    expected = [torch.randn((1, n, 768), generator=generator)[0] for n in (45, 51, 38)]
    noise = noise_of("published", 42, _ids(3), (45, 51, 38), 768)
    for row in (2, 0, 1):
        assert torch.equal(noise(row), expected[row])


def test_drawing_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    for rng in ("published", "per-row"):
        noise_of(rng, 1, ("a", "b"), (3, 4), 2)(1)
    assert torch.equal(torch.get_rng_state(), before)


def test_per_row_noise_is_keyed_by_seed_and_row_id_alone() -> None:
    ids, lengths = ("a", "b", "c"), (3, 4, 3)
    noise = noise_of("per-row", 42, ids, lengths, 5)
    moved = noise_of("per-row", 42, ids[::-1], lengths[::-1], 5)
    subset = noise_of("per-row", 42, ids[1:2], lengths[1:2], 5)
    for row in range(3):
        assert torch.equal(noise(row), moved(2 - row))
    assert torch.equal(noise(1), subset(0))
    assert not torch.equal(noise(0), noise(2))
    assert not torch.equal(noise(0), noise_of("per-row", 43, ids, lengths, 5)(0))


# ---------------------------------------------------------------- through the engine

ROWS = dataset_rows(mixed_rows(20, seed=6))
FIELDS: dict[str, Any] = {
    "conditions": ["same_norm_random", "shuffled_translation"],
    "decoding": {"max_new_tokens": 3},
}


def _run(rows: Sequence[DatasetRow], **fields: Any) -> Any:
    translators = {seed: random_translator(24, 32, seed=seed) for seed in SEEDS}
    return run_engine(engine_pair(neox_pair()), rows, translators, **FIELDS, **fields).rows


# The draws are those of the plan, whatever the path.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("rng", "path"),
    [*product(["published", "per-row", "derangement"], ["shared"]), ("published", "plain")],
)
def test_a_limited_runs_rows_are_those_of_the_whole_run(rng: str, path: str) -> None:
    execution = {"path": path}
    whole = _run(ROWS, rng=rng, execution=execution)
    part = _run(ROWS, rng=rng, execution=execution, limit=7)
    assert {row_id for _, row_id in part} == {row.row_id for row in ROWS[:7]}
    donors = {row.donor_row_id for row in part.values() if row.donor_row_id}
    assert donors - {row.row_id for row in ROWS[:7]}, "no donor stands beyond the limit"
    for key, row in part.items():
        assert row.token_ids == whole[key].token_ids
        assert row.donor_row_id == whole[key].donor_row_id
        assert row.translated_norm_mean == pytest.approx(whole[key].translated_norm_mean, rel=1e-6)


def test_per_row_draws_do_not_move_when_the_dataset_is_reordered() -> None:
    order = list(ROWS)
    random.Random(3).shuffle(order)
    before, after = _run(ROWS), _run(order)
    assert before.keys() == after.keys()
    for key, row in before.items():
        assert row.token_ids == after[key].token_ids
        assert row.donor_row_id == after[key].donor_row_id


def test_per_row_noise_is_the_same_in_a_subset() -> None:
    whole, part = _run(ROWS), _run(ROWS[5:12])
    for key, row in part.items():
        if key[0].startswith("same_norm_random"):
            assert row.token_ids == whole[key].token_ids
