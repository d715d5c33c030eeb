"""Random choices of a seed: donors of shuffled conditions, and noise for source `random`."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set

import numpy as np
import torch

from statebridge.experiment.random_streams import STREAMS, Answers
from statebridge.runs.plan import Donors

Noise = Callable[[int], torch.Tensor]
"""Returns a row's standard normal draw, (length, width), float32, on the CPU."""


def choose_donors(
    lengths: Sequence[int],
    row_ids: Sequence[str],
    seed: int,
    rng: str,
    answers: Sequence[Answers] | None = None,
) -> Donors:
    """Choose a donor of the same prompt length for each row of the whole dataset.

    Args:
        lengths: Length in tokens of each row's prompt.
        row_ids: Ids of the rows.
        seed: Seed of the cells.
        rng: Name of the random stream.
        answers: Names of each row's answer; by default every row has an answer of its own.
    """
    if answers is None:
        answers = [{row_id} for row_id in row_ids]
    stream = STREAMS.get(rng)
    groups: dict[int, list[int]] = {}
    for index, length in enumerate(lengths):
        groups.setdefault(length, []).append(index)
    lone = frozenset(group[0] for group in groups.values() if len(group) == 1)
    chosen = stream.donors(list(groups.values()), row_ids, seed, answers)
    if stream.answers_apart:
        shared = {i for i, d in chosen.items() if not answers[i].isdisjoint(answers[d])}
        nearest = _nearest_apart(lengths, row_ids, lone | shared, answers)
    else:
        nearest = {i: donor for i in lone if (donor := _nearest(lengths, row_ids, i)) is not None}
    return Donors(tuple(chosen.get(i, i) for i in range(len(lengths))), lone, nearest)


def _nearest(lengths: Sequence[int], row_ids: Sequence[str], lone: int) -> int | None:
    others = (index for index in range(len(lengths)) if index != lone)
    own = lengths[lone]
    return min(others, key=lambda i: (abs(lengths[i] - own), lengths[i], row_ids[i]), default=None)


def _nearest_apart(
    lengths: Sequence[int],
    row_ids: Sequence[str],
    wanting: Set[int],
    answers: Sequence[Answers],
) -> dict[int, int]:
    """Return for each row that wants one a row of another answer, where there is one.

    Each is used once, and the differences in length are the least in sum.
    """
    if len(lengths) < 2 or not wanting:
        return {}
    ordered = sorted(range(len(lengths)), key=lambda i: (lengths[i], row_ids[i]))
    rows = [i for i in ordered if i in wanting]
    sizes = np.array([lengths[i] for i in ordered], dtype=np.float64)
    cost = np.abs(sizes[None, :] - np.array([lengths[i] for i in rows])[:, None])
    # Dearer than any sum of differences, so that they are taken only where there is nothing else.
    shared, self_given = cost.max() * len(rows) + 1, (cost.max() * len(rows) + 1) * len(rows) + 1
    with_name: dict[str, list[int]] = {}
    for column, donor in enumerate(ordered):
        for name in answers[donor]:
            with_name.setdefault(name, []).append(column)
    column_of = {row: column for column, row in enumerate(ordered)}
    alike: dict[Answers, list[int]] = {}
    for place, row in enumerate(rows):
        names = frozenset(answers[row])
        if names not in alike:
            alike[names] = sorted({column for name in names for column in with_name[name]})
        cost[place, alike[names]] += shared
        cost[place, column_of[row]] = self_given
    from scipy.optimize import linear_sum_assignment  # noqa: PLC0415 - half a second of every start

    places, columns = linear_sum_assignment(cost)
    return {rows[p]: ordered[c] for p, c in zip(places, columns, strict=True)}


def noise_of(
    rng: str, seed: int, row_ids: Sequence[str], lengths: Sequence[int], width: int
) -> Noise:
    """Return the noise of a seed.

    Args:
        rng: Name of the random stream.
        seed: Seed of the cells.
        row_ids: Ids of the rows.
        lengths: Length in tokens of each row's prompt.
        width: Width of the receiver's states.
    """
    stream = STREAMS.get(rng)
    seeds = [stream.noise_seed(seed, row_id) for row_id in row_ids]
    if None in seeds:
        return _OneGenerator(seed, lengths, width).draw

    def draw(row: int) -> torch.Tensor:
        own = seeds[row]
        assert own is not None, "all rows have a seed of their own, or none has"  # noqa: S101
        generator = torch.Generator().manual_seed(own)
        return torch.randn((lengths[row], width), generator=generator)

    return draw


class _OneGenerator:
    """One generator for all rows: one `randn((1, length, width))` for each, in their order.

    Rows are drawn in any order without holding all draws: the generator's state is kept at
    every `STRIDE`-th row as the stream is first walked, and a draw replays from the nearest
    kept state.
    """

    STRIDE = 16

    def __init__(self, seed: int, lengths: Sequence[int], width: int) -> None:
        self._lengths, self._width = lengths, width
        self._generator = torch.Generator().manual_seed(seed)
        self._kept = [self._generator.get_state()]
        self._next = 0

    def draw(self, row: int) -> torch.Tensor:
        """Return the row's draw, (length, width)."""
        if row != self._next:
            mark = min(row // self.STRIDE, len(self._kept) - 1)
            if not mark * self.STRIDE <= self._next <= row:
                self._generator.set_state(self._kept[mark])
                self._next = mark * self.STRIDE
            while self._next < row:
                self._step()
        return self._step()

    def _step(self) -> torch.Tensor:
        if self._next == len(self._kept) * self.STRIDE:
            self._kept.append(self._generator.get_state())
        drawn = torch.randn((1, self._lengths[self._next], self._width), generator=self._generator)
        self._next += 1
        return drawn[0]
