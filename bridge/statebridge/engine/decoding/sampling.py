"""Sampling whose draws belong to a row and a seed, not to the batch.

A token is the inverse of the cumulative distribution at a uniform number; all uniforms of a
text are drawn before it, from a generator of its own. So a row's text is a function of its
scores, its seed and its id: the same alone, in any batch, and after a restart. Under one seed
every condition gets the same numbers for a row's answer, which makes paired comparisons
tighter.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch

CHUNK = 32
"""Lanes whose whole vocabulary is sorted in float64 at a time."""

ANSWER = "answer"
"""The text that is scored, among those that are drawn for a row."""


@dataclass(frozen=True, slots=True)
class Draws:
    """How a group of lanes is sampled.

    Attributes:
        uniforms: (lanes, steps) float64 in [0, 1): the number of each lane at each step.
    """

    temperature: float
    top_p: float
    uniforms: torch.Tensor

    def choose(self, scores: torch.Tensor, lanes: torch.Tensor, step: int) -> torch.Tensor:
        """Return the token of some of the lanes at a step; scores (lanes, vocabulary)."""
        return sample_tokens(scores, self.uniforms[lanes, step], self.temperature, self.top_p)


def row_uniforms(seed: int, row_id: str, text: str, count: int) -> list[float]:
    """Return the first numbers in [0, 1) of a text of a row, the same on every machine.

    Args:
        text: Which of the row's texts: `ANSWER`, or one that a model writes before.
    """
    rng = random.Random(f"statebridge.sampling|{seed}|{text}|{row_id}")  # noqa: S311
    return [rng.random() for _ in range(count)]


def sample_tokens(
    scores: torch.Tensor, uniforms: torch.Tensor, temperature: float, top_p: float
) -> torch.Tensor:
    """Return one token a lane, (lanes,): inverse CDF over the most probable tokens.

    The nucleus is the fewest tokens, from the most probable on, whose probabilities reach
    `top_p` (arXiv 1904.09751); of equal ones the lower id comes first. In float64.

    Args:
        scores: (lanes, vocabulary), processed but not divided by the temperature.
        uniforms: (lanes,) float64 in [0, 1).
    """
    chosen = []
    for start in range(0, scores.shape[0], CHUNK):
        some = slice(start, start + CHUNK)
        probabilities = (scores[some].double() / temperature).softmax(dim=-1)
        ordered, ids = probabilities.sort(dim=-1, descending=True, stable=True)
        reached = ordered.cumsum(dim=-1)
        kept = torch.where(reached - ordered < top_p, ordered, 0.0)
        reached = kept.cumsum(dim=-1)
        target = uniforms[some, None] * reached[:, -1:]
        place = (reached > target).int().argmax(dim=-1, keepdim=True)
        chosen.append(ids.gather(1, place)[:, 0])
    return torch.cat(chosen)
