"""Means of the sender's states over prompts, by place: those that mean ablation writes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import copy

import torch

from statebridge.channels.workload import Workload
from statebridge.engine.executors.memory import halving
from statebridge.models.token_batch import TokenBatch
from statebridge.runs.plan import TokenIds

MEAN_ROWS = 32
"""Prompts that go through the lower blocks together while the means are taken."""


class MeanStates:
    """Mean states over prompts, by place.

    The places are: the first token; each distance from the prompt's end that at least half of
    the prompts reach; and, in one, whatever lies between the two in longer prompts. Prompts
    end alike (in the question and the template), so that a distance from the end means the
    same in all of them; the first token's state is often of another size than all others.

    Args:
        lengths: Tokens of every prompt that will be added.
        width: Of the states.
    """

    def __init__(
        self, lengths: Sequence[int], width: int, device: torch.device | str = "cpu"
    ) -> None:
        descending = sorted(lengths, reverse=True)
        self._reach = descending[(len(descending) + 1) // 2 - 1]
        places = self._reach + 2
        self._sums = torch.zeros((places, width), dtype=torch.float64, device=device)
        self._counts = torch.zeros(places, dtype=torch.float64, device=device)

    def add(self, states: torch.Tensor, batch: TokenBatch) -> None:
        """Take in the states (rows, positions, width) of left-padded prompts."""
        places = torch.tensor(
            [place for length in batch.lengths for place in self._places(length)],
            device=self._sums.device,
        )
        real = states[batch.mask].to(self._sums.device, torch.float64)
        self._sums.index_add_(0, places, real)
        self._counts.index_add_(0, places, torch.ones_like(places, dtype=torch.float64))

    def to(self, device: torch.device | str) -> MeanStates:
        """Return the same means on a device."""
        moved = copy(self)
        moved._sums, moved._counts = self._sums.to(device), self._counts.to(device)
        return moved

    def of_prompt(self, length: int) -> torch.Tensor:
        """Return the means at the places of a prompt of `length` tokens, (length, width)."""
        places = torch.tensor(list(self._places(length)), device=self._sums.device)
        return self._sums[places] / self._counts[places, None]

    def _places(self, length: int) -> Iterable[int]:
        yield 0
        for position in range(1, length):
            from_end = length - position
            yield from_end if from_end <= self._reach else self._reach + 1


def mean_states(work: Workload, order: Sequence[int]) -> MeanStates:
    """Return the means over the prompts of some rows, shortest first."""
    sender = work.pair.sender
    prompts = [work.plan.prompts.sender[row] for row in order]
    means = MeanStates([len(ids) for ids in prompts], sender.width, sender.device)

    def add(some: Sequence[TokenIds]) -> list[None]:
        batch = sender.pack(some)
        means.add(sender.capture(batch), batch)
        return []

    for start in range(0, len(prompts), MEAN_ROWS):
        halving(add, prompts[start : start + MEAN_ROWS], "row")
    return means
