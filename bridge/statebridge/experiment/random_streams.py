"""Random streams: which donors and which noise the rows of an experiment get under a seed.

An experiment's `rng` names one of them. `derangement`, the default, gives every row the state of a
row with another gold answer, and every state once. `per-row`, the default of before, draws each
row's donor by itself: some rows give to several others and some to none, and a donor may share the
row's answer. The noise of both is keyed by seed and row id. Each paper that drew otherwise adds its
own stream (`statebridge.papers.*.streams`).
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence, Set
from typing import Protocol

from statebridge.errors import ExperimentError
from statebridge.registry import Registry

Answers = Set[str]
"""Names of a row's gold answer, aliases included. Two rows that share one are of one answer."""


class RandomStream(Protocol):
    """The draws of a seed over the rows of a dataset."""

    answers_apart: bool
    """Whether a donor's answer must be another one than the row's, wherever there is such a donor;
    then a lone row's donor is chosen by that too."""

    def donors(
        self,
        groups: Sequence[Sequence[int]],
        row_ids: Sequence[str],
        seed: int,
        answers: Sequence[Answers],
    ) -> Mapping[int, int]:
        """Return the donor of each row that has one.

        Args:
            groups: Row indices by prompt length, lengths in order of first appearance. A
                donor is of its row's group.
            row_ids: Ids of all rows.
            seed: Seed of the cell.
            answers: Answers of all rows that count as right, in one form.
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

    answers_apart = False

    def donors(
        self,
        groups: Sequence[Sequence[int]],
        row_ids: Sequence[str],
        seed: int,
        answers: Sequence[Answers],  # noqa: ARG002
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


class Derangement(PerRow):
    """Donors that differ from their rows in the answer, each used once; noise as `per-row`.

    Within a group the rows of one answer stay together in a random order, and each takes the row
    that is as many places on as the largest answer has rows. If no answer has more than half of
    the rows, no donor shares its row's answer; else as few do as possible (for a largest answer
    of m among n rows 2m - n of them). Swaps of two rows' donors that make nothing worse then mix
    the result, so that the rows of one answer do not get the rows of one other.
    """

    answers_apart = True
    SWAPS = 10
    """Swaps tried for each row. Five or more leave no trace of the first arrangement."""

    def donors(
        self,
        groups: Sequence[Sequence[int]],
        row_ids: Sequence[str],
        seed: int,
        answers: Sequence[Answers],
    ) -> Mapping[int, int]:
        """Return a donor for each row of each group of two or more, never the row itself."""
        donors: dict[int, int] = {}
        for group in groups:
            if len(group) > 1:
                donors |= self._of_group(group, row_ids, seed, answers)
        return donors

    def _of_group(
        self,
        group: Sequence[int],
        row_ids: Sequence[str],
        seed: int,
        answers: Sequence[Answers],
    ) -> dict[int, int]:
        # In an order that depends on the seed and the ids alone.
        shuffled = sorted(group, key=lambda index: (row_key(seed, row_ids[index]), row_ids[index]))
        generator = random.Random(row_key(seed, row_ids[shuffled[0]]))  # noqa: S311 - no secret
        by_answer = same_answer(shuffled, answers)
        together = [index for rows in by_answer for index in rows]
        largest = max(map(len, by_answer))
        step = largest if largest < len(group) else 1
        donors = dict(zip(together, together[step:] + together[:step], strict=True))

        def shared(row: int, donor: int) -> bool:
            return not answers[row].isdisjoint(answers[donor])

        for _ in range(self.SWAPS * len(group)):
            one, other = generator.choice(together), generator.choice(together)
            given, others = donors[one], donors[other]
            if others == one or given == other:
                continue
            before = shared(one, given) + shared(other, others)
            if shared(one, others) + shared(other, given) <= before:
                donors[one], donors[other] = others, given
        return donors


STREAMS.add("derangement")(Derangement())

DEFAULT_STREAM = "derangement"


def same_answer(rows: Sequence[int], answers: Sequence[Answers]) -> list[list[int]]:
    """Return rows by answer, in their order; rows linked by shared names are of one answer."""
    linked_to = {row: row for row in rows}

    def first_of(row: int) -> int:
        while linked_to[row] != row:
            linked_to[row] = linked_to[linked_to[row]]
            row = linked_to[row]
        return row

    with_name: dict[str, int] = {}
    for row in rows:
        for name in answers[row]:
            linked_to[first_of(row)] = first_of(with_name.setdefault(name, row))
    found: dict[int, list[int]] = {}
    for row in rows:
        found.setdefault(first_of(row), []).append(row)
    return list(found.values())


def row_key(seed: int, row_id: str) -> int:
    """Return a 63-bit key of (seed, row id), the same on every machine."""
    digest = hashlib.sha256(f"{seed}|{row_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
