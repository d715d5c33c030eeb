"""The vectorised processors against Hugging Face's own, one row at a time."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import NoRepeatNGramLogitsProcessor, RepetitionPenaltyLogitsProcessor

from statebridge.engine.decoding.processors import ban_repeated_ngrams, penalise_repetition
from statebridge.models.token_batch import TokenBatch

VOCAB = 7
END = 0
"""Pad id and end id at once, and a token that prompts hold too."""

# A vocabulary of seven makes repeats, and n-grams that overlap themselves, the rule.
rows = st.lists(
    st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=12), min_size=1, max_size=5
)
penalties = st.one_of(st.just(1.0), st.floats(0.05, 5.0))
sizes = st.integers(0, 6)


def _scores(count: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    scores = 2 * torch.randn((count, VOCAB), generator=generator)
    scores[:, 3] = 0.0
    return scores


def _one_by_one(
    prompts: Sequence[Sequence[int]], scores: torch.Tensor, penalty: float, size: int
) -> torch.Tensor:
    expected = []
    for prompt, row in zip(prompts, scores, strict=True):
        ids, row_scores = torch.tensor([prompt]), row[None].clone()
        # `generate` adds neither processor at these values.
        if penalty != 1.0:
            row_scores = RepetitionPenaltyLogitsProcessor(penalty)(ids, row_scores)
        if size > 0:
            row_scores = NoRepeatNGramLogitsProcessor(size)(ids, row_scores)
        expected.append(row_scores)
    return torch.cat(expected)


def _ours(
    prompts: Sequence[Sequence[int]], scores: torch.Tensor, penalty: float, size: int
) -> torch.Tensor:
    batch = TokenBatch.pack(prompts, END)
    scores = scores.clone()
    assert penalise_repetition(scores, batch.ids, batch.mask, penalty) is scores
    assert ban_repeated_ngrams(scores, batch.ids, batch.mask, size) is scores
    return scores


@given(prompts=rows, penalty=penalties, size=sizes, seed=st.integers(0, 9))
def test_a_padded_batch_gives_what_each_row_gives_alone(
    prompts: list[list[int]], penalty: float, size: int, seed: int
) -> None:
    scores = _scores(len(prompts), seed)
    # Bit for bit: the same operations on the same numbers.
    assert torch.equal(
        _ours(prompts, scores, penalty, size), _one_by_one(prompts, scores, penalty, size)
    )


def test_pads_are_not_seen_though_they_are_end_tokens() -> None:
    prompts = [[4, 5, 4], [0, 5, 1, 2, 4, 5, 4]]
    scores = torch.ones((2, VOCAB))
    found = _ours(prompts, scores, 2.0, 1)
    assert found[0, END] == 1.0
    assert found[1, END] == -torch.inf
    # Hugging Face's own, given the padded batch, count the pads: what these exist to avoid.
    padded = TokenBatch.pack(prompts, END).ids
    assert NoRepeatNGramLogitsProcessor(1)(padded, scores.clone())[0, END] == -torch.inf


def test_a_lane_shorter_than_the_ngram_bans_nothing() -> None:
    found = _ours([[4, 4], [4, 4, 4, 4, 4]], torch.ones((2, VOCAB)), 1.0, 3)
    assert torch.equal(found[0], torch.ones(VOCAB))
    assert found[1].tolist() == [1, 1, 1, 1, -torch.inf, 1, 1]


def test_a_token_that_completes_any_window_is_banned() -> None:
    # 2 follows (1) early and not late: the later window must not lift the ban.
    for prompt in ([1, 2, 3, 2, 1], [3, 2, 1, 2, 1]):
        assert _ours([prompt], torch.ones((1, VOCAB)), 1.0, 2)[0, 2] == -torch.inf


def test_penalties_below_one_favour_what_was_seen() -> None:
    scores = torch.tensor([[1.0, -1.0, 2.0, -2.0, 0.0, 0.0, 0.0]])
    found = _ours([[0, 1]], scores, 0.5, 0)
    assert found.tolist() == [[2.0, -0.5, 2.0, -2.0, 0.0, 0.0, 0.0]]
