"""Random streams: which donors and which noise the rows of an experiment get under a seed.

An experiment's `rng` names one of them. `per-row` keys every draw by seed and row id, so that
a row's draws depend neither on the order of the rows nor on which others there are. Each paper
that drew otherwise adds its own stream (`statebridge.papers.*.streams`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Protocol

from statebridge.errors import ExperimentError
from statebridge.registry import Registry


class RandomStream(Protocol):
    """The draws of a seed over the rows of a dataset."""

    def donors(
        self, groups: Sequence[Sequence[int]], row_ids: Sequence[str], seed: int
    ) -> Mapping[int, int]:
        """Return the donor of each row that has one.

        Args:
            groups: Row indices by prompt length, lengths in order of first appearance. A
                donor is of its row's group.
            row_ids: Ids of all rows.
            seed: Seed of the cell.
        """

    def noise_seed(self, seed: int, row_id: str) -> int | None:
        """Return the seed of the row's own noise generator.

        None: all rows draw from one generator of the cell's seed, in the order of the rows.
        """


STREAMS: Registry[RandomStream] = Registry(
    "rng",
    package="statebridge.papers",
    module="streams",
    group="statebridge.random_streams",
    error=ExperimentError,
)


class PerRow:
    """Draws keyed by seed and row id."""

    def donors(
        self, groups: Sequence[Sequence[int]], row_ids: Sequence[str], seed: int
    ) -> Mapping[int, int]:
        """Return a donor for each row of each group of two or more, never the row itself."""
        donors = {}
        for group in groups:
            by_id = sorted(group, key=lambda index: row_ids[index])
            for place, index in enumerate(by_id):
                if len(by_id) > 1:
                    step = 1 + row_key(seed, row_ids[index]) % (len(by_id) - 1)
                    donors[index] = by_id[(place + step) % len(by_id)]
        return donors

    def noise_seed(self, seed: int, row_id: str) -> int | None:
        """Return the key of the two."""
        return row_key(seed, row_id)


STREAMS.add("per-row")(PerRow())


def row_key(seed: int, row_id: str) -> int:
    """Return a 63-bit key of (seed, row id), the same on every machine."""
    digest = hashlib.sha256(f"{seed}|{row_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
