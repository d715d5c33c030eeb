"""The protocol of a channel, and the operations that the engine offers to it.

A channel composes these operations: write states into the receiver, let a model write text, let
the receiver answer. How each is carried out, natively or in remote jobs, is the engine's
business, which knows no channel by name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from statebridge.channels.operators import Written
from statebridge.channels.workload import Workload
from statebridge.errors import ExperimentError
from statebridge.experiment.cells import Cell
from statebridge.models.messages.key_values import KeyValues
from statebridge.models.token_batch import TokenBatch
from statebridge.records import LaneResult, Side, Turn
from statebridge.registry import Registry
from statebridge.runs.plan import TokenIds

LaneRow = tuple[Cell, int, LaneResult]
"""A cell, a row index, and the result of the row in the cell."""

WriteStates = Callable[[Cell, Sequence[int], torch.Tensor, TokenBatch], Written]
"""Called with a cell, row indices, the receiver's own states (rows, positions, width) at its
layer and the receiver's prompts; returns the states to write."""

Messages = Callable[[Cell, Sequence[int]], KeyValues]
"""Called with a cell and row indices; returns the rows' messages on the receiver's device."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The receiver's prompt in one lane, known only once a model has written text."""

    prompt: TokenIds
    answer: TokenIds
    """The gold answer after the prompt."""
    turns: tuple[Turn, ...]
    """Texts that were generated before, in order; at least one of the sender's."""
    others: tuple[TokenIds, ...] = ()
    """The row's other answers after the prompt, where they are measured."""


class Operations(Protocol):
    """The operations that channels are made of. Rows are indices of the dataset."""

    @property
    def workload(self) -> Workload:
        """The plan, the pair, the translators and the draws."""

    def write_states(
        self, cells: Sequence[Cell], rows: Sequence[int], states: WriteStates
    ) -> list[LaneRow]:
        """Let the receiver answer its known prompts in all lanes, with states written."""

    def prepend(
        self, cells: Sequence[Cell], rows: Sequence[int], messages: Messages
    ) -> list[LaneRow]:
        """Let the receiver answer its known prompts in all lanes, behind keys and values."""

    def write_text(
        self,
        cell: Cell,
        rows: Sequence[int],
        side: Side,
        turn: int,
        prompts: Sequence[TokenIds],
        new_tokens: int,
    ) -> list[list[int]]:
        """Return the tokens that a model writes after prompts; `turn` counts a side's from 0."""

    def answer(
        self, cells: Sequence[Cell], rows: Sequence[int], readings: Sequence[Reading]
    ) -> list[LaneRow]:
        """Let the receiver answer other prompts, one for each row, the same in all cells."""


class Channel(Protocol):
    """A way for the sender's content to reach the receiver."""

    def check(self, workload: Workload, cells: Sequence[Cell]) -> None:
        """Refuse, before anything runs, cells of this channel that cannot be carried out.

        Raises:
            StatebridgeError: The message names the row or the condition, and what would be right.
        """

    def carry(
        self, operations: Operations, cells: Sequence[Cell], rows: Sequence[int]
    ) -> list[LaneRow]:
        """Run some rows under some cells of this channel whose receivers read the same prompt.

        Returns:
            The lanes that the plan includes, in any order.
        """


CHANNELS: Registry[type[Channel]] = Registry(
    "channel",
    package="statebridge.channels",
    group="statebridge.channels",
    error=ExperimentError,
    methods={"check": ("workload", "cells"), "carry": ("operations", "cells", "rows")},
)
