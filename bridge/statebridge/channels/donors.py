"""Donors: whose states a row gets in a shuffled condition. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence

from statebridge.experiment.random_streams import STREAMS
from statebridge.runs.plan import Donors


def choose_donors(lengths: Sequence[int], row_ids: Sequence[str], seed: int, rng: str) -> Donors:
    """Choose a donor of the same prompt length for each row of the whole dataset.

    Args:
        lengths: Length in tokens of each row's prompt.
        row_ids: Ids of the rows.
        seed: Seed of the cells.
        rng: Name of the random stream.
    """
    groups: dict[int, list[int]] = {}
    for index, length in enumerate(lengths):
        groups.setdefault(length, []).append(index)
    lone = frozenset(group[0] for group in groups.values() if len(group) == 1)
    nearest = {i: donor for i in lone if (donor := _nearest(lengths, row_ids, i)) is not None}
    chosen = STREAMS.get(rng).donors(list(groups.values()), row_ids, seed)
    return Donors(tuple(chosen.get(i, i) for i in range(len(lengths))), lone, nearest)


def _nearest(lengths: Sequence[int], row_ids: Sequence[str], lone: int) -> int | None:
    others = (index for index in range(len(lengths)) if index != lone)
    own = lengths[lone]
    return min(others, key=lambda i: (abs(lengths[i] - own), lengths[i], row_ids[i]), default=None)
