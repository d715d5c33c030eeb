"""Several senders in front of one receiver, one row at a time.

It shares no code with the library. Source of the topologies: arXiv 2511.20639.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from tests.reference.key_values import Entries
from tests.reference.rollout import cache_of_vectors


@torch.no_grad()
def text_of_turns(
    model: Any, turns: Sequence[Sequence[int]], steps: int, matrix: Tensor, rows: Tensor
) -> Tensor:
    """Return what a chain of senders reads as one text of vectors, latent steps included.

    Args:
        matrix: From a state after the final norm to the next vector.
        rows: What the model reads for each token.
    """
    norm = float(rows.double().norm(dim=1).mean())
    text = rows[:0]
    for ids in turns:
        text = torch.cat((text, rows[list(ids)]))
        for _ in range(steps):
            found = model(inputs_embeds=text[None], output_hidden_states=True).hidden_states
            mapped = found[-1][0, -1].double() @ matrix.double()
            step = mapped * (norm / math.sqrt(float((mapped**2).sum())))
            text = torch.cat((text, step.to(text.dtype)[None]))
    return text


@torch.no_grad()
def chained(
    model: Any, turns: Sequence[Sequence[int]], steps: int, matrix: Tensor, rows: Tensor
) -> Entries:
    """Return keys and values of each block after all turns of a chain, read as one text."""
    return cache_of_vectors(model, text_of_turns(model, turns, steps, matrix, rows)[None])


def side_by_side(messages: Sequence[Entries]) -> Entries:
    """Return entries one behind the other, at the positions that they have."""
    return [
        (torch.cat([k for k, _ in block], dim=2), torch.cat([v for _, v in block], dim=2))
        for block in zip(*messages, strict=True)
    ]


@torch.no_grad()
def blind_to_each_other(model: Any, prompts: Sequence[Sequence[int]]) -> Entries:
    """Return keys and values after one pass over all prompts, each of which sees itself alone."""
    ids = [token for prompt in prompts for token in prompt]
    of = [place for place, prompt in enumerate(prompts) for _ in prompt]
    mask = torch.full((1, 1, len(ids), len(ids)), torch.finfo(torch.float32).min)
    for query in range(len(ids)):
        for key in range(query + 1):
            if of[query] == of[key]:
                mask[..., query, key] = 0
    cache = DynamicCache()
    model(
        input_ids=torch.tensor([ids]),
        attention_mask=mask,
        position_ids=torch.arange(len(ids))[None],
        past_key_values=cache,
        use_cache=True,
    )
    return [(layer.keys, layer.values) for layer in cache.layers]
