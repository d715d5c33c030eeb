"""A receiver on its own cache, fused with a sender's, one row at a time.

It shares no code with the library. Source: arXiv 2510.03215, with the weights by their published
names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import (
    DynamicCache,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
)

from tests.reference.key_values import Answered, Entries

Weights = Mapping[str, Tensor]


def _changed(y: Tensor, weights: Weights, name: str) -> Tensor:
    """Return y + W2 gelu(W1 rmsnorm(y))."""
    norm, w1, w2 = (weights[f"{name}.blocks.0.{part}.weight"] for part in ("norm", "w1", "w2"))
    normed = y / (y.square().mean(dim=-1, keepdim=True) + 1e-6).sqrt() * norm
    inner = normed @ w1.T
    return y + (inner * 0.5 * (1 + torch.erf(inner / 2**0.5))) @ w2.T


def fused_entries(sent: Tensor, own: Tensor, weights: Weights, name: str, gates: str) -> Tensor:
    """Return a block's own keys or values (heads, n, width), fused with the sender's."""
    heads, count, width = own.shape
    both = [part.permute(1, 0, 2).reshape(count, -1) for part in (sent, own)]
    start = torch.cat(both, dim=-1) @ weights[f"{name}_in.weight"].T + weights[f"{name}_in.bias"]
    shared = _changed(start, weights, f"{name}_mlp1")
    projected = _changed(shared, weights, f"{name}_proj_mlp2")
    projected = projected @ weights[f"{name}_proj_out.weight"].T + weights[f"{name}_proj_out.bias"]
    scalars = _changed(shared, weights, f"{name}_scalar_mlp2")
    scalars = (
        scalars @ weights[f"{name}_scalar_head.weight"].T + weights[f"{name}_scalar_head.bias"]
    )
    is_open = gates == "open" or (gates == "learned" and float(weights[f"{name}_gate_logit"]) > 0)
    added = torch.sigmoid(scalars)[:, :, None] * projected.reshape(count, heads, width)
    return own + (added.permute(1, 0, 2) if is_open else 0)


def turned_by(keys: Tensor, places: int, *, dimensions: int, base: float) -> Tensor:
    """Return rotated keys (1, heads, n, width), each so many places further on."""
    half = dimensions // 2
    rates = torch.tensor([base ** (-2 * i / dimensions) for i in range(half)]).double() * places
    pairs = torch.complex(keys[..., :half].double(), keys[..., half:dimensions].double())
    turned = pairs * torch.polar(torch.ones(half).double(), rates)
    return torch.cat(
        (turned.real.to(keys.dtype), turned.imag.to(keys.dtype), keys[..., dimensions:]), dim=-1
    )


def fused_cache(
    sent: Entries, own: Entries, weights: Weights, meeting: int, *, gates: str = "learned"
) -> Entries:
    """Return the receiver's entries with the last `meeting` positions fused.

    The sender's last positions are those of the same tokens.
    """
    made: Entries = []
    for block, entries in enumerate(own):
        theirs = sent[max(0, block + len(sent) - len(own))]
        parts = []
        for name, mine, other in zip(("key", "value"), entries, theirs, strict=True):
            start = mine.shape[2] - meeting
            chosen = {
                key.removeprefix(f"{block}."): value
                for key, value in weights.items()
                if key.startswith(f"{block}.")
            }
            kept = other[0, :, other.shape[2] - meeting :]
            fused = fused_entries(kept, mine[0, :, start:], chosen, name, gates)
            parts.append(torch.cat((mine[:, :, :start], fused[None]), dim=2))
        made.append((parts[0], parts[1]))
    return made


def aligned(sender: Any, receiver: Any, ids: Sequence[int], by: str) -> list[int]:
    """Return a token of a sender's byte-level vocabulary for each token of a receiver's."""
    roles, known = ("bos_token_id", "eos_token_id", "pad_token_id"), sender.get_vocab()
    made = []
    for token in ids:
        same = [role for role in roles if getattr(receiver, role) == token]
        name = receiver.convert_ids_to_tokens(token)
        if same and getattr(sender, same[0]) is not None:
            made.append(getattr(sender, same[0]))
        elif name in known:
            made.append(known[name])
        else:
            parts = sender(receiver.decode([token]), add_special_tokens=False)["input_ids"]
            longest = max(range(len(parts)), key=lambda i: (len(sender.decode([parts[i]])), -i))
            made.append(parts[0 if by == "first" else longest])
    return made


@torch.no_grad()
def answer_on(
    model: Any, entries: Entries, ids: Sequence[int], gold: Sequence[int], *, end: int, new: int
) -> Answered:
    """Decode greedily on entries of a prompt but for its last token, all anew at each step."""

    def logits(text: Sequence[int]) -> Tensor:
        cache = DynamicCache()
        for block, (keys, values) in enumerate(entries):
            cache.update(keys, values, block)
        found: Tensor = model(
            input_ids=torch.tensor([list(text[len(ids) - 1 :])]),
            position_ids=torch.arange(len(ids) - 1, len(text))[None],
            past_key_values=cache,
            use_cache=True,
        ).logits[0]
        return found

    processors = RepetitionPenaltyLogitsProcessor(1.3), NoRepeatNGramLogitsProcessor(3)
    read = list(ids)
    while len(read) < len(ids) + new and (len(read) == len(ids) or read[-1] != end):
        scores = logits(read)[-1:]
        for process in processors:
            scores = process(torch.tensor([read]), scores)
        read.append(int(scores.argmax()))
    logprobs = logits([*ids, *gold]).double().log_softmax(-1)
    total = sum(float(logprobs[place, token]) for place, token in enumerate(gold))
    return Answered(tuple(read[len(ids) :]), total)
