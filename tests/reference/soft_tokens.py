"""Vectors in front of a receiver's prompt, one row at a time, read as one text of vectors.

It shares no code with the library. Sources: arXiv 2310.06272 and the definition of `vocab` in the
documentation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import NoRepeatNGramLogitsProcessor, RepetitionPenaltyLogitsProcessor

from tests.reference.key_values import Answered


@torch.no_grad()
def mixed_by_vocabulary(
    sender: Any,
    ids: Sequence[int],
    shared: Sequence[tuple[int, int]],
    inputs: Tensor,
    temperature: float,
) -> Tensor:
    """Return a vector for each token of the prompt, (n, width).

    Args:
        shared: Ids of one text in the sender's and the receiver's vocabulary.
        inputs: (vocabulary, width) that the receiver reads.
    """
    logits = sender(input_ids=torch.tensor([list(ids)])).logits[0].double()
    norm = float(inputs.double().norm(dim=1).mean())
    made = []
    own, theirs = [pair[0] for pair in shared], [pair[1] for pair in shared]
    for at_position in logits:
        chances = torch.exp(at_position[own] / temperature)
        vector = (chances / chances.sum()) @ inputs[theirs].double()
        made.append(vector * norm / vector.norm())
    return torch.stack(made).float()


@torch.no_grad()
def written_mixtures(
    sender: Any,
    ids: Sequence[int],
    own: Tensor,
    table: Tensor,
    *,
    steps: int,
    temperature: float,
    end: int,
) -> Tensor:
    """Return the vectors that a sender writes, (n, width); everything is read anew at each step."""
    read, made = own[list(ids)], []
    for _ in range(steps):
        logits = sender(inputs_embeds=read[None]).logits[0, -1].double()
        chances = (logits / temperature).softmax(-1).to(own.dtype)
        mixed = chances @ own
        nearest = torch.nn.functional.cosine_similarity(own, mixed[None], dim=1).argmax()
        if int(nearest) == end:
            break
        made.append(chances @ table)
        read = torch.cat((read, mixed[None]))
    return torch.stack(made) if made else table[:0]


@torch.no_grad()
def answer_after_vectors(
    receiver: Any,
    vectors: Tensor,
    ids: Sequence[int],
    gold: Sequence[int],
    inputs: Tensor,
    *,
    end: int,
    new: int,
) -> Answered:
    """Decode greedily after vectors and a prompt, the whole text anew at each step."""

    def logits(tokens: Sequence[int]) -> Tensor:
        text = torch.cat((vectors, inputs[list(tokens)]))[None]
        found: Tensor = receiver(inputs_embeds=text).logits[0, len(vectors) :]
        return found

    processors = RepetitionPenaltyLogitsProcessor(1.3), NoRepeatNGramLogitsProcessor(3)
    read = list(ids)
    while len(read) < len(ids) + new and (len(read) == len(ids) or read[-1] != end):
        scores = logits(read)[-1:]
        for process in processors:
            scores = process(torch.tensor([read]), scores)
        read.append(int(scores.argmax()))
    logprobs = logits([*ids, *gold]).double().log_softmax(-1)
    places = range(len(ids) - 1, len(ids) - 1 + len(gold))
    total = sum(float(logprobs[place, token]) for place, token in zip(places, gold, strict=True))
    return Answered(tuple(read[len(ids) :]), total)
