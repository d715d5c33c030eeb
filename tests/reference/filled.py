"""Noise and zeros in place of a message, one row at a time. It shares no code with the library.

Each entry of the noise, (width,), has the norm of the entry in its place. The draw of a part of the
message belongs to a seed and to the prompts that senders read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from tests.reference.key_values import Entries


def filled_part(own: Tensor, what: str, key: str) -> Tensor:
    """Return noise or zeros for a part of a message, (..., width)."""
    if what == "zero":
        return torch.zeros(own.shape)
    seed = int(hashlib.sha256(key.encode()).hexdigest()[:16], 16) // 2
    drawn = torch.randn(own.shape, generator=torch.Generator().manual_seed(seed))
    flat, like = drawn.reshape(-1, own.shape[-1]), own.reshape(-1, own.shape[-1])
    made = [
        one.double()
        * float(torch.linalg.vector_norm(as_long.double()))
        / float(torch.linalg.vector_norm(one.double()))
        for one, as_long in zip(flat, like, strict=True)
    ]
    return torch.stack(made).reshape(own.shape).float()


def filled_entries(
    message: Entries, what: str, seed: int | None, prompts: Sequence[Sequence[int]]
) -> Entries:
    """Return keys and values, (1, heads, positions, width) each, filled block by block."""
    read = tuple(tuple(prompt) for prompt in prompts)
    return [
        (
            filled_part(keys[0], what, f"{seed} key {block} {read}")[None],
            filled_part(values[0], what, f"{seed} value {block} {read}")[None],
        )
        for block, (keys, values) in enumerate(message)
    ]
