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


@torch.no_grad()
def last_alone(
    model: Any, turns: Sequence[Sequence[int]], steps: int, matrix: Tensor, rows: Tensor
) -> Entries:
    """Return the latent steps of a chain's last turn, each turn behind those of the one before."""
    norm = float(rows.double().norm(dim=1).mean())
    kept: Entries = []
    for ids in turns:
        cache = DynamicCache()
        for block, (keys, values) in enumerate(kept):
            cache.update(keys, values, block)
        read = rows[list(ids)]
        for step in range(steps + 1):
            found = model(
                inputs_embeds=read[None],
                past_key_values=cache,
                use_cache=True,
                output_hidden_states=True,
            )
            if step < steps:
                mapped = found.hidden_states[-1][0, -1].double() @ matrix.double()
                read = (mapped * (norm / mapped.norm())).to(rows.dtype)[None]
        kept = [(at.keys[:, :, -steps:], at.values[:, :, -steps:]) for at in cache.layers]
    return kept


@torch.no_grad()
def in_turn(turns: Sequence[tuple[Any, Sequence[int]]]) -> Entries:
    """Return keys and values that models of one shape make in turn, each behind all before it."""
    made = DynamicCache()
    for model, ids in turns:
        made = model(
            input_ids=torch.tensor([list(ids)]), past_key_values=made, use_cache=True
        ).past_key_values
    return [(layer.keys, layer.values) for layer in made.layers]


@torch.no_grad()
def soft_chain(
    models: Sequence[Any],
    turns: Sequence[tuple[int, Sequence[int]]],
    inputs: Sequence[Tensor],
    *,
    by: str,
    temperature: float = 1.0,
    steps: int = 0,
    end: int,
) -> list[Tensor]:
    """Return the vectors that models of one vocabulary make in turn, (n, width) for each reader.

    Each reads what was made before as its own vectors, then its prompt, everything anew.

    Args:
        turns: The model that has each turn, and its prompt.
        inputs: What each model reads for each token.
    """
    sent = [rows[:0] for rows in inputs]
    for place, ids in turns:
        model, own = models[place], inputs[place]
        norms = [float(rows.double().norm(dim=1).mean()) for rows in inputs]
        read = torch.cat((sent[place], own[list(ids)]))
        made: list[list[Tensor]] = [[] for _ in inputs]
        logits = model(inputs_embeds=read[None]).logits[0].double()
        if by == "vocab":
            for chances in (logits[-len(ids) :, : len(own)] / temperature).softmax(-1):
                for vectors, rows, norm in zip(made, inputs, norms, strict=True):
                    vector = chances @ rows.double()
                    vectors.append((vector * norm / vector.norm()).float())
        for _ in range(steps):
            last = model(inputs_embeds=read[None]).logits[0, -1].double()
            chances = (last / temperature).softmax(-1).to(own.dtype)
            if by == "text":
                chances = torch.nn.functional.one_hot(last.argmax(), len(own)).to(own.dtype)
            mixed = chances @ own
            nearest = torch.nn.functional.cosine_similarity(own, mixed[None], dim=1).argmax()
            if int(nearest) == end:
                break
            for vectors, rows in zip(made, inputs, strict=True):
                vectors.append(chances @ rows)
            read = torch.cat((read, mixed[None]))
        sent = [
            torch.cat((before, *(vector[None] for vector in vectors)))
            for before, vectors in zip(sent, made, strict=True)
        ]
    return sent


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
