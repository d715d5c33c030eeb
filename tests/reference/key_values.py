"""A receiver behind another model's keys and values, one row at a time.

Every block has the whole message in its cache; a block that is not chosen has all its keys but
the first masked. It shares no code with the library. Source: arXiv 2510.03346.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import (
    DynamicCache,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
)

from tests.reference.hooks import blocks

Entries = list[tuple[Tensor, Tensor]]


@torch.no_grad()
def read_cache(model: Any, ids: Sequence[int]) -> Entries:
    """Return keys and values of each block after one unpadded prompt."""
    cache = DynamicCache()
    model(input_ids=torch.tensor([list(ids)]), past_key_values=cache, use_cache=True)
    return [(layer.keys, layer.values) for layer in cache.layers]


@contextmanager
def seeing_the_first_key_only(model: Any, whole: Collection[int], count: int) -> Iterator[None]:
    """Mask the keys 1 to `count` - 1 in every block that is not in `whole`."""

    def hook(_module: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        mask = kwargs["attention_mask"].clone()
        mask[..., 1:count] = torch.finfo(mask.dtype).min
        return args, kwargs | {"attention_mask": mask}

    handles = []
    for index, block in enumerate(blocks(model)):
        if index not in whole:
            named = dict(block.named_children())
            part = next(named[name] for name in ("attention", "self_attn", "attn") if name in named)
            handles.append(part.register_forward_pre_hook(hook, with_kwargs=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def logits_behind(
    model: Any, message: Entries, ids: Sequence[int], whole: Collection[int]
) -> Tensor:
    """Return the logits, (T, vocabulary), at the tokens of a prompt that follows a message."""
    count, length = message[0][0].shape[2], len(ids)
    cache = DynamicCache()
    for block, (keys, values) in enumerate(message):
        cache.update(keys, values, block)
    mask = torch.zeros(1, 1, length, count + length)
    for place in range(length):
        mask[..., place, count + place + 1 :] = torch.finfo(mask.dtype).min
    with seeing_the_first_key_only(model, {0, *whole}, count):
        logits: Tensor = model(
            input_ids=torch.tensor([list(ids)]),
            attention_mask=mask,
            position_ids=torch.arange(count, count + length)[None],
            past_key_values=cache,
            use_cache=True,
        ).logits[0]
    return logits


@dataclass(frozen=True)
class Answered:
    """New tokens of one row, and the log-probability of its gold answer in nats."""

    tokens: tuple[int, ...]
    gold_logprob: float


def answer_behind(
    model: Any,
    message: Entries,
    ids: Sequence[int],
    whole: Collection[int],
    gold: Sequence[int],
    *,
    end: int,
    new: int,
) -> Answered:
    """Decode greedily behind a message, the whole prompt anew at each step."""
    processors = RepetitionPenaltyLogitsProcessor(1.3), NoRepeatNGramLogitsProcessor(3)
    read = list(ids)
    while len(read) < len(ids) + new and (len(read) == len(ids) or read[-1] != end):
        scores = logits_behind(model, message, read, whole)[-1:]
        for process in processors:
            scores = process(torch.tensor([read]), scores)
        read.append(int(scores.argmax()))
    logprobs = logits_behind(model, message, [*ids, *gold], whole).double().log_softmax(-1)
    places = range(len(ids) - 1, len(ids) - 1 + len(gold))
    total = sum(float(logprobs[place, token]) for place, token in zip(places, gold, strict=True))
    return Answered(tuple(read[len(ids) :]), total)
