"""The random draws of the published run, repeated exactly.

Both streams run over the whole dataset in its order, whichever rows are then asked for.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor


def published_donors(lengths: Sequence[int], seed: int, *, strict: bool) -> dict[int, int]:
    """Return, for each row index, the row whose translated states it is given.

    `lengths` are the prompt lengths in tokens, in dataset order. Rows are grouped by
    length in order of first appearance; one generator shuffles each group's indices in
    that order; each takes the next one in its shuffled group, the last takes the first. A
    row that is alone in its group takes itself, or is left out where `strict`.
    """
    groups: dict[int, list[int]] = {}
    for index, length in enumerate(lengths):
        groups.setdefault(length, []).append(index)
    if strict:
        groups = {length: group for length, group in groups.items() if len(group) > 1}
    generator = random.Random(seed)
    donors: dict[int, int] = {}
    for group in groups.values():
        order = list(group)
        generator.shuffle(order)
        for place, index in enumerate(order):
            donors[index] = order[(place + 1) % len(order)]
    return donors


def published_noise(lengths: Sequence[int], width: int, seed: int) -> Iterator[Tensor]:
    """Yield one float32 normal tensor (1, length, width) a row, from one CPU generator."""
    generator = torch.Generator().manual_seed(seed)
    for length in lengths:
        yield torch.randn((1, length, width), generator=generator, dtype=torch.float32)
