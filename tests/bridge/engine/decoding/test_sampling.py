"""Sampling: a row's text depends on its seed and id, not on its batch."""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from transformers import TopPLogitsWarper

from statebridge.engine.decoding.sampling import row_uniforms, sample_tokens
from statebridge.errors import ExperimentError
from tests.bridge.engine.tiny_experiment import (
    EngineRun,
    dataset_rows,
    engine_pair,
    neox_pair,
    run_engine,
)
from tests.reference.decoding import encode, text_of
from tests.tiny_models import mixed_rows

ROWS = mixed_rows(6, seed=4)
TEMPERATURE, TOP_P, NEW = 0.9, 0.8, 8
SEEDS = (42, 7)
ALONE, TASK = "Q: {question}\nA:", "Context: {context}\nQ: {question}\nA:"
RELAY = "{context}\n\nKey facts:"


@cache
def _run(rows_together: int = 64, max_lanes: int | None = None) -> EngineRun:
    decoding = {
        "max_new_tokens": NEW,
        "relay_max_new_tokens": 5,
        "repetition_penalty": 1.2,
        "no_repeat_ngram_size": 2,
        "sample": {"temperature": TEMPERATURE, "top_p": TOP_P},
    }
    return run_engine(
        engine_pair(neox_pair()),
        dataset_rows(ROWS),
        {},
        rows_together=rows_together,
        max_lanes=max_lanes,
        conditions=["question_only", "skyline", "private_relay", "debate", "private_last_zero"],
        seeds=list(SEEDS),
        decoding=decoding,
    )


def _pick(scores: np.ndarray, uniform: float) -> int:
    """The inverse CDF, written down plainly in float64."""
    weights = np.exp((scores - scores.max()) / TEMPERATURE)
    weights /= weights.sum()
    order = sorted(range(len(weights)), key=lambda token: (-weights[token], token))
    kept, mass = [], 0.0
    for token in order:
        if mass >= TOP_P:
            break
        kept.append(token)
        mass += weights[token]
    reached = 0.0
    for token in kept:
        reached += weights[token]
        if reached > uniform * mass:
            return token
    return kept[-1]


def _naive(model: Any, tokenizer: Any, text: str, numbers: list[float]) -> list[int]:
    """One row, one token at a time, the whole sequence through the model each time."""
    ids = encode(tokenizer, text)
    new: list[int] = []
    for uniform in numbers:
        sequence = ids + new
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([sequence]), use_cache=False).logits[0, -1]
        scores = logits.float().numpy().copy()
        for token in set(sequence):
            scores[token] = scores[token] / 1.2 if scores[token] > 0 else scores[token] * 1.2
        for place in range(1, len(sequence)):
            if sequence[place - 1] == sequence[-1]:
                scores[sequence[place]] = -np.inf
        token = _pick(scores.astype(np.float64), uniform)
        new.append(token)
        if token == 0:
            break
    return new


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_a_sampled_row_is_the_naive_one(seed: int) -> None:
    pair, run = neox_pair(), _run()
    for row in ROWS:
        answer = row_uniforms(seed, row["id"], "answer", NEW)
        for cell, template in (("question_only", ALONE), ("skyline", TASK)):
            expected = _naive(pair.receiver, pair.tokenizer, template.format(**row), answer)
            assert run.rows[f"{cell}/seed{seed}", row["id"]].token_ids == tuple(expected)
        drawn = row_uniforms(seed, row["id"], "sender 0", 5)
        relay = text_of(
            pair.tokenizer, _naive(pair.sender, pair.tokenizer, RELAY.format(**row), drawn)
        )
        read = f"{relay}\n{ALONE.format(**row)}"
        found = run.rows[f"private_relay/seed{seed}", row["id"]]
        assert found.relay == relay
        expected = _naive(pair.receiver, pair.tokenizer, read, answer)
        assert found.token_ids == tuple(expected)


@pytest.mark.slow
@pytest.mark.parametrize(("rows_together", "max_lanes"), [(1, None), (4, None), (64, 3)])
def test_batches_change_nothing(rows_together: int, max_lanes: int | None) -> None:
    whole, parts = _run().rows, _run(rows_together, max_lanes).rows
    assert whole.keys() == parts.keys()
    for key, row in whole.items():
        assert parts[key].token_ids == row.token_ids
        assert parts[key].turns == row.turns


def test_every_condition_has_its_seeds_and_they_differ() -> None:
    run = _run()
    assert {cell.seed for cell in run.workload.plan.cells} == set(SEEDS)
    for name in ("question_only", "private_relay", "debate", "private_last_zero"):
        differing = [
            run.rows[f"{name}/seed42", row["id"]].token_ids
            != run.rows[f"{name}/seed7", row["id"]].token_ids
            for row in ROWS
        ]
        assert sum(differing) >= 4, name
    # Nothing is drawn before the answer, so the measures of the prefill are the same.
    for row in ROWS:
        one, two = (run.rows[f"skyline/seed{seed}", row["id"]] for seed in SEEDS)
        assert one.gold_logprob == two.gold_logprob


def test_a_row_has_numbers_of_its_own_whatever_runs_beside_it() -> None:
    first = row_uniforms(1, "a", "answer", 8)
    assert first == row_uniforms(1, "a", "answer", 20)[:8]
    assert all(0 <= number < 1 for number in first)
    others = [(2, "a", "answer"), (1, "b", "answer"), (1, "a", "sender 0")]
    assert all(row_uniforms(*key, 8) != first for key in others)
    # What is drawn must not move with the Python or the machine.
    assert first[0] == 0.26574365888213514


# ---------------------------------------------------------------- the distribution


def test_the_nucleus_is_that_of_transformers() -> None:
    generator = torch.Generator().manual_seed(3)
    scores = torch.randn((40, 50), generator=generator) * 2
    warped = TopPLogitsWarper(0.7)(None, scores.double())
    kept = torch.isfinite(warped)
    numbers = torch.rand(40, generator=generator, dtype=torch.float64)
    chosen = sample_tokens(scores, numbers, 1.0, 0.7)
    assert bool(kept.gather(1, chosen[:, None]).all())
    # The ends of the interval are the most and the least probable token that is kept.
    low = sample_tokens(scores, torch.zeros(40, dtype=torch.float64), 1.0, 0.7)
    assert low.tolist() == scores.argmax(dim=-1).tolist()
    high = sample_tokens(scores, torch.full((40,), 1 - 2**-53, dtype=torch.float64), 1.0, 0.7)
    least = torch.where(kept, scores, torch.inf).argmin(dim=-1)
    assert high.tolist() == least.tolist()


def test_frequencies_are_the_probabilities() -> None:
    scores = torch.tensor([2.0, 1.0, 0.0, -torch.inf]).expand(4000, 4)
    numbers = (torch.arange(4000, dtype=torch.float64) + 0.5) / 4000
    found = Counter(sample_tokens(scores, numbers, 2.0, 1.0).tolist())
    weights = np.exp(np.array([1.0, 0.5, 0.0]))
    # Evenly spaced numbers hit each interval to within one of its share.
    for token, share in enumerate(weights / weights.sum()):
        assert abs(found[token] - 4000 * share) <= 1
    assert found[3] == 0


def test_equal_probabilities_go_by_the_token_id() -> None:
    scores = torch.zeros((3, 4))
    numbers = torch.tensor([0.0, 0.5, 0.99], dtype=torch.float64)
    assert sample_tokens(scores, numbers, 1.0, 1.0).tolist() == [0, 2, 3]
    assert sample_tokens(scores, numbers, 1.0, 0.4).tolist() == [0, 1, 1]


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        ({"temperature": 0}, "0 is no temperature; .* leave sample out for greedy"),
        ({"temperature": -1}, "-1 is no temperature"),
        ({"top_p": 0}, "top_p: give a number above 0, not 0"),
        ({"top_p": 1.5}, "top_p: give a number of at most 1"),
    ],
)
def test_settings_that_make_no_sense(sample: dict[str, float], message: str) -> None:
    with pytest.raises(ExperimentError, match=message):
        run_engine(
            engine_pair(neox_pair()),
            dataset_rows(ROWS),
            {},
            conditions=["skyline"],
            decoding={"sample": sample},
        )


def test_the_plain_path_does_not_sample() -> None:
    with pytest.raises(ExperimentError, match=r"decoding.sample: the plain path only decodes"):
        run_engine(
            engine_pair(neox_pair()),
            dataset_rows(ROWS),
            {},
            conditions=["skyline"],
            decoding={"sample": {}},
            execution={"path": "plain"},
        )
