"""Measures of a prefill that need no decoding: gold log-probability, rank, divergence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

CHUNK = 32
"""Lanes whose whole-vocabulary distributions are held in float64 at a time."""


@dataclass(frozen=True, slots=True)
class GoldMeasures:
    """Measures of the gold answer in one lane.

    Attributes:
        logprob: Log-probability of the whole answer, nats.
        ids: Tokens of the answer.
        token_logprobs: Log-probability of each, nats.
        rank: Rank, from 1, of its first token: how many tokens are at least as probable. Ties
            count against it, since a distribution that is flat knows nothing.
        divergence: KL(no_inject || lane) of the next-token distribution, nats.
    """

    logprob: float
    ids: tuple[int, ...]
    token_logprobs: tuple[float, ...]
    rank: int
    divergence: float


def measure_gold(
    next_logits: torch.Tensor,
    answer_logits: torch.Tensor | None,
    answers: Sequence[Sequence[int]],
    baseline_logits: torch.Tensor,
) -> list[GoldMeasures]:
    """Measure each lane, in float64.

    Args:
        next_logits: (lanes, vocabulary) after the prompt.
        answer_logits: (lanes, longest answer - 1, vocabulary) after each answer token but
            the last; None where all answers have one token.
        answers: Gold token ids of each lane.
        baseline_logits: (lanes, vocabulary) after the task prompt with nothing injected.
    """
    measures: list[GoldMeasures] = []
    for start in range(0, len(answers), CHUNK):
        lanes = slice(start, start + CHUNK)
        own = next_logits[lanes].double().log_softmax(dim=-1)
        base = baseline_logits[lanes].double().log_softmax(dim=-1)
        weight = base.exp()
        # A token that the baseline excludes (-inf) weighs nothing; 0 · inf would be NaN.
        terms = torch.where(weight == 0, 0.0, weight * (base - own))
        # Rounding can leave a divergence a hair below zero; NaN stays NaN and is refused.
        divergence = terms.sum(dim=-1).clamp(min=0)
        chunk = answers[lanes]
        first = torch.tensor([answer[0] for answer in chunk], device=own.device)
        gold = own.gather(1, first[:, None])
        ranks = (own >= gold).sum(dim=-1)
        totals, each = gold[:, 0], gold
        longest = max(len(answer) for answer in chunk)
        if answer_logits is not None and longest > 1:
            later = answer_logits[lanes, : longest - 1].double().log_softmax(dim=-1)
            targets = torch.zeros((len(chunk), longest - 1), dtype=torch.int64)
            real = torch.zeros((len(chunk), longest - 1), dtype=torch.bool)
            for lane, answer in enumerate(chunk):
                targets[lane, : len(answer) - 1] = torch.tensor(answer[1:], dtype=torch.int64)
                real[lane, : len(answer) - 1] = True
            scores = later.gather(2, targets.to(later.device)[..., None])[..., 0]
            totals = totals + torch.where(real.to(later.device), scores, 0).sum(dim=1)
            each = torch.cat((gold, scores), dim=1)
        by_token = each.tolist()
        for lane, answer in enumerate(chunk):
            measures.append(
                GoldMeasures(
                    logprob=float(totals[lane]),
                    ids=tuple(answer),
                    token_logprobs=tuple(by_token[lane][: len(answer)]),
                    rank=int(ranks[lane]),
                    divergence=float(divergence[lane]),
                )
            )
    return measures


def answer_inputs(
    answers: Sequence[Sequence[int]], pad_id: int, device: torch.device
) -> torch.Tensor | None:
    """Return answers without their last token, right-padded, (lanes, longest - 1).

    None where every answer has a single token: the prefill's logits say it all.
    """
    longest = max(len(answer) for answer in answers)
    if longest == 1:
        return None
    ids = torch.full((len(answers), longest - 1), pad_id, dtype=torch.int64)
    for lane, answer in enumerate(answers):
        ids[lane, : len(answer) - 1] = torch.tensor(answer[:-1], dtype=torch.int64)
    return ids.to(device)
