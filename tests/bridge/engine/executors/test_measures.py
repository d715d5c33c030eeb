"""Gold log-probability, rank and divergence against sums written out, and no silent number."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from statebridge.engine.executors.measures import CHUNK, answer_inputs, measure_gold

VOCAB = 5
logits = st.lists(st.floats(-30, 30), min_size=VOCAB, max_size=VOCAB)


def _logprobs(row: list[float]) -> list[float]:
    top = max(row)
    total = top + math.log(sum(math.exp(x - top) for x in row))
    return [x - total for x in row]


@given(
    own=logits,
    later=logits,
    base=logits,
    answer=st.lists(st.integers(0, 4), min_size=1, max_size=2),
)
def test_one_lane_written_out(
    own: list[float], later: list[float], base: list[float], answer: list[int]
) -> None:
    (found,) = measure_gold(
        torch.tensor([own], dtype=torch.float64),
        torch.tensor([[later]], dtype=torch.float64),
        [answer],
        torch.tensor([base], dtype=torch.float64),
    )
    here, there = _logprobs(own), _logprobs(base)
    expected = here[answer[0]] + (_logprobs(later)[answer[1]] if len(answer) == 2 else 0.0)
    assert found.ids == tuple(answer)
    assert found.logprob == pytest.approx(expected, abs=1e-9)
    assert found.rank == sum(x >= here[answer[0]] for x in here)
    divergence = sum(math.exp(p) * (p - q) for p, q in zip(there, here, strict=True))
    assert found.divergence == pytest.approx(max(0.0, divergence), abs=1e-9)
    assert found.divergence >= 0


def test_lanes_beyond_one_chunk_do_not_mix() -> None:
    generator = torch.Generator().manual_seed(0)
    count = 2 * CHUNK + 3
    next_logits = torch.randn((count, VOCAB), generator=generator)
    later = torch.randn((count, 3, VOCAB), generator=generator)
    base = torch.randn((count, VOCAB), generator=generator)
    answers = [[lane % VOCAB] * (1 + lane % 4) for lane in range(count)]
    together = measure_gold(next_logits, later, answers, base)
    for lane in range(count):
        alone = measure_gold(
            next_logits[lane : lane + 1],
            later[lane : lane + 1],
            [answers[lane]],
            base[lane : lane + 1],
        )
        assert alone == [together[lane]]


def test_ties_count_against_the_answer() -> None:
    (found,) = measure_gold(
        torch.tensor([[1.0, 3.0, 3.0, 3.0, 0.0]]), None, [[2]], torch.zeros(1, 5)
    )
    assert found.rank == 3


def test_a_token_that_the_model_excludes_weighs_nothing() -> None:
    # Some models put -inf at vocabulary entries that stand for no token.
    row = torch.tensor([[1.0, -torch.inf, 0.5, 0.0, 0.0]])
    other = torch.tensor([[0.0, -torch.inf, 0.5, 1.0, 0.0]])
    (same,) = measure_gold(row, None, [[0]], row)
    assert same.divergence == 0.0
    (found,) = measure_gold(other, None, [[0]], row)
    kept = [0, 2, 3, 4]
    (expected,) = measure_gold(other[:, kept], None, [[0]], row[:, kept])
    assert found.divergence == pytest.approx(expected.divergence)
    assert found.divergence > 0


def test_a_divergence_that_is_not_a_number_is_kept() -> None:
    (found,) = measure_gold(torch.zeros((1, VOCAB)), None, [[0]], torch.full((1, VOCAB), torch.inf))
    assert math.isnan(found.divergence)


def test_answer_inputs_leave_the_last_token_out() -> None:
    device = torch.device("cpu")
    assert answer_inputs([[3], [4]], 0, device) is None
    inputs = answer_inputs([[3], [4, 5, 6], [7, 8]], 9, device)
    assert inputs is not None
    assert inputs.tolist() == [[9, 9], [4, 5], [7, 9]]
