"""Donors: whose translated states a row gets in a shuffled condition. Torch-free."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from typing import Literal

from statebridge.runs.plan import Donors


def choose_donors(
    lengths: Sequence[int], row_ids: Sequence[str], seed: int, rng: Literal["per-row", "published"]
) -> Donors:
    """Choose a donor of the same prompt length for each row of the whole dataset.

    `published` repeats arXiv 2606.03280: row indices are grouped by prompt length in order
    of first appearance; one `random.Random(seed)` shuffles each group in that order; each
    index takes the next of its shuffled group, the last the first. A lone row takes no
    draw (shuffling one element draws nothing), so the strict form, which drops lone rows
    first, has the same donors.

    `per-row` draws each row's donor from the other rows of its length by a key of (seed,
    row id), so that a row's donor does not depend on the order of the rows.
    """
    groups: dict[int, list[int]] = {}
    for index, length in enumerate(lengths):
        groups.setdefault(length, []).append(index)
    lone = frozenset(group[0] for group in groups.values() if len(group) == 1)
    nearest = {i: donor for i in lone if (donor := _nearest(lengths, row_ids, i)) is not None}
    donors = list(range(len(lengths)))
    if rng == "published":
        stream = random.Random(seed)  # noqa: S311 - the published stream, not a secret
        for group in groups.values():
            shuffled = list(group)
            stream.shuffle(shuffled)
            for place, index in enumerate(shuffled):
                donors[index] = shuffled[(place + 1) % len(shuffled)]
        return Donors(tuple(donors), lone, nearest)
    for group in groups.values():
        by_id = sorted(group, key=lambda index: row_ids[index])
        for place, index in enumerate(by_id):
            if len(by_id) > 1:
                step = 1 + row_key(seed, row_ids[index]) % (len(by_id) - 1)
                donors[index] = by_id[(place + step) % len(by_id)]
    return Donors(tuple(donors), lone, nearest)


def _nearest(lengths: Sequence[int], row_ids: Sequence[str], lone: int) -> int | None:
    others = (index for index in range(len(lengths)) if index != lone)
    own = lengths[lone]
    return min(others, key=lambda i: (abs(lengths[i] - own), lengths[i], row_ids[i]), default=None)


def row_key(seed: int, row_id: str) -> int:
    """Return a 63-bit key of (seed, row id), the same on every machine."""
    digest = hashlib.sha256(f"{seed}|{row_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
