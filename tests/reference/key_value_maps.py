"""A cache sent through affine maps of keys and values, one row and one head at a time.

It shares no code with the library. Source: arXiv 2608.03893.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from tests.reference.key_values import Entries


def placed(keys: Tensor, sign: int, *, dimensions: int, base: float) -> Tensor:
    """Return keys (1, heads, n, width) turned to (or, with -1, back from) positions 0 to n - 1."""
    half, places = dimensions // 2, sign * torch.arange(keys.shape[2]).double()
    first, second = keys[..., :half].double(), keys[..., half:dimensions].double()
    rates = torch.tensor([base ** (-2 * i / dimensions) for i in range(half)]).double()
    turns = torch.polar(torch.ones(len(places), half).double(), places[:, None] * rates)
    turned = torch.complex(first, second) * turns
    parts = turned.real.to(keys.dtype), turned.imag.to(keys.dtype), keys[..., dimensions:]
    return torch.cat(parts, dim=-1)


def mapped_cache(
    entries: Entries,
    weights: Mapping[str, Tensor],
    *,
    heads: int,
    sender: Mapping[str, Any],
    receiver: Mapping[str, Any],
) -> Entries:
    """Return a receiver's keys and values for a sender's.

    Args:
        weights: `weight` (blocks, 2, groups, inputs, outputs), `bias` and `chosen`.
        heads: Key-value heads of the receiver.
        sender: `dimensions` that are turned, and `base`; `receiver` likewise.
    """
    bare = [(placed(keys, -1, **sender), values) for keys, values in entries]
    blocks, _, groups, _, _ = weights["weight"].shape
    made: Entries = []
    for block in range(blocks):
        read = [bare[int(source)] for source in weights["chosen"][block]]
        both = []
        for kind in (0, 1):
            of_groups = []
            for group in range(groups):
                parts = []
                for entry in read:
                    per_group = entry[kind].shape[1] // groups
                    chosen = entry[kind][0, group * per_group : (group + 1) * per_group]
                    parts += list(chosen)
                inputs = torch.cat(parts, dim=-1)
                found = inputs @ weights["weight"][block, kind, group]
                of_groups.append(found + weights["bias"][block, kind, group])
            flat = torch.cat(of_groups, dim=-1)
            both.append(torch.stack(flat.chunk(heads, dim=-1))[None])
        made.append((placed(both[0], 1, **receiver), both[1]))
    return made


def mean_cache(mean: Tensor, count: int, *, heads: int, receiver: Mapping[str, Any]) -> Entries:
    """Return a receiver's mean keys, rotated to positions 0 to `count` - 1, and mean values."""
    made: Entries = []
    for block in mean:
        keys, values = (torch.stack(part.flatten().chunk(heads))[None, :, None] for part in block)
        made.append(
            (placed(keys.repeat(1, 1, count, 1), 1, **receiver), values.repeat(1, 1, count, 1))
        )
    return made


def ridge(inputs: Tensor, targets: Tensor, penalty: float) -> tuple[Tensor, Tensor]:
    """Return W and b of targets = inputs W + b; the penalty is relative to the inputs' variance."""
    centred, aims = inputs - inputs.mean(0), targets - targets.mean(0)
    gram = centred.T @ centred / len(inputs)
    gram += penalty * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    weight = torch.linalg.solve(gram, centred.T @ aims / len(inputs))
    return weight, targets.mean(0) - inputs.mean(0) @ weight
