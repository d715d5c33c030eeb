"""The plan of a run: plain data, without models, that can be pickled and sent anywhere.

A plan says which lanes there are, what both models read, whose states a row gets in a shuffled
cell, and which rows run together. Row indices are those of the whole dataset, of which the first
`limit` rows run; donors and draws are chosen over the whole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

from statebridge.data.training_texts import answer_names
from statebridge.experiment.cells import Cell
from statebridge.experiment.conditions import Condition, Prompt, SenderContext
from statebridge.experiment.experiment import Experiment
from statebridge.experiment.message import LayerShare, Readers
from statebridge.experiment.positions import Positions
from statebridge.records import DatasetRow

TokenIds = tuple[int, ...]

Turns = tuple[TokenIds, ...]
"""Ids of all prompts that a row's senders read, in the order in which they have their turns."""

Deal = tuple[Readers, SenderContext | None]
"""Prompts that several senders read, and the context in place of the row's."""

Span = tuple[int, int]
"""First position and the one after the last, counted back from the prompt's end: (-3, 0)."""

TranslatorKey = tuple[str, int]
"""Name of a set of translators, and a seed."""


@dataclass(frozen=True, slots=True)
class PromptTable:
    """Token ids of every prompt that is known before a model runs, by row index.

    Attributes:
        sender: Token ids that the sender reads.
        receiver: Token ids of the receiver's task prompt; the same object as the sender's where
            all ids are equal.
        private: Receiver's ids of the prompts without the context, of those in use.
        slots: Positions of the placeholders, if the placeholder prompt is in use.
        cut: Rows whose prompt was cut on either side, the prompts in use considered.
        contexts: Sender's ids with another context in place of the row's, of those in use.
        dealt: Ids of each of several senders by what they read, the context that they read in place
            of the row's (None for its own) and row index, of those in use.
    """

    sender: tuple[TokenIds, ...]
    receiver: tuple[TokenIds, ...]
    private: Mapping[Prompt, tuple[TokenIds, ...]] = field(default_factory=dict)
    slots: tuple[Span, ...] = ()
    cut: frozenset[int] = frozenset()
    contexts: Mapping[SenderContext, tuple[TokenIds, ...]] = field(default_factory=dict)
    dealt: Mapping[Deal, tuple[Turns, ...]] = field(default_factory=dict)

    @property
    def lengths(self) -> tuple[int, ...]:
        """Lengths of the receiver's task prompt by row index."""
        return tuple(len(ids) for ids in self.receiver)

    def read(self, prompt: Prompt) -> tuple[TokenIds, ...]:
        """Return the receiver's ids of a prompt; a text's row is planned by its task prompt."""
        return self.private.get(prompt, self.receiver)

    def sent(self, context: SenderContext | None, row: int) -> TokenIds:
        """Return the sender's ids of a row with its own context (None) or another one."""
        return (self.sender if context is None else self.contexts[context])[row]

    def ids_match(self, row: int) -> bool:
        """Whether sender and receiver read the same token ids."""
        return self.sender[row] == self.receiver[row]

    def lengths_match(self, row: int) -> bool:
        """Whether sender and receiver read the same number of tokens."""
        return len(self.sender[row]) == len(self.receiver[row])

    def span(self, prompt: Prompt, positions: Positions, row: int) -> Span | None:
        """Return the span of named positions in a row's prompt; None for all others.

        The `question` is what the ends of the sender's and the receiver's prompts share.
        """
        if positions == "placeholder":
            return self.slots[row]
        if positions == "question":
            count = shared_end(self.sender[row], self.read(prompt)[row])
            # A context may end in the very token that is its placeholder.
            return -min(count, -self.slots[row][1] if prompt == "placeholder" else count), 0
        return None

    def spans(self, condition: Condition, rows: Sequence[int]) -> tuple[Span, ...] | None:
        """Return the spans of a condition's named positions in some rows; None for all others."""
        found = (self.span(condition.prompt, condition.positions, row) for row in rows)
        return tuple(span for span in found if span is not None) or None


def shared_start(first: Sequence[int], second: Sequence[int]) -> int:
    """Return the number of tokens that two prompts share at their beginnings."""
    pairs = zip(first, second, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def shared_end(first: TokenIds, second: TokenIds) -> int:
    """Return the number of tokens that two prompts share at their ends."""
    return shared_start(first[::-1], second[::-1])


@dataclass(frozen=True, slots=True)
class Donors:
    """The donor of every row of the dataset, by row index.

    Attributes:
        of_row: Index of the donor; a lone row's is its own.
        lone: Rows whose prompt length no other row has.
        nearest: For each lone row, a row of the nearest length (the shorter, then the first by
            row id; where the stream keeps answers apart, one of another answer, for rows whose
            donor has their own answer too); empty where there is only one row.
    """

    of_row: tuple[int, ...]
    lone: frozenset[int]
    nearest: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class OtherAnswers:
    """Texts of a row that are measured beside its gold answer."""

    aliases: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()

    @property
    def texts(self) -> tuple[str, ...]:
        """All of them, aliases first."""
        return (*self.aliases, *self.wrong)


@dataclass(frozen=True, slots=True)
class Group:
    """Rows that run together under some cells, all of one channel.

    Attributes:
        index: Place in the plan, from 0.
        channel: Name of the channel.
        prompt: What the receiver reads. The cells of a group share one sender pass and one
            lower receiver pass; text groups generate the text first.
        rows: Row indices, in the order in which their lanes are committed.
    """

    index: int
    channel: str
    prompt: Prompt
    rows: tuple[int, ...]
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """The plan of a run: an experiment's rows in its cells.

    Attributes:
        limit: Number of rows that run, the first ones.
        prompts: Prompts of all rows.
        answers: Gold token ids of the rows that run, by the prompt that they follow.
        donors: By seed, where a condition shuffles.
        other_answers: By row that runs, where any are measured.
        others: Token ids of those texts, by the prompt that they follow, as `answers`.
        end_ids: Tokens that end an answer; empty where the end is not measured.
        measured_on: Rows on which the importance of layers is measured, by their choice.
        max_lanes: Most lanes that run at the same time.
        groups: All groups, in the order in which they are committed; empty until rows are
            grouped.
    """

    experiment: Experiment
    rows: Sequence[DatasetRow]
    limit: int
    cells: tuple[Cell, ...]
    prompts: PromptTable
    answers: Mapping[Prompt, tuple[TokenIds, ...]]
    donors: Mapping[int, Donors]
    other_answers: tuple[OtherAnswers, ...] = ()
    others: Mapping[Prompt, tuple[tuple[TokenIds, ...], ...]] = field(default_factory=dict)
    end_ids: TokenIds = ()
    measured_on: Mapping[LayerShare, tuple[int, ...]] = field(default_factory=dict)
    max_lanes: int = 1
    groups: tuple[Group, ...] = ()

    def included(self, cell: Cell, row: int) -> bool:
        """Whether the row runs in the cell.

        A strict shuffle leaves lone rows out, a choice of layers the rows that it is made on.
        """
        layers = cell.condition.layers
        if isinstance(layers, LayerShare) and layers.held_out and row in self.rows_of(layers):
            return False
        if not cell.condition.shuffled or cell.condition.lone_rows == "self":
            return True
        donors = self.donors[seed_of(cell)]
        if cell.condition.lone_rows == "nearest":
            return row not in donors.lone or row in donors.nearest
        return row not in donors.lone

    def rows_of(self, choice: LayerShare) -> tuple[int, ...]:
        """Return the rows on which the importance of layers is measured for a choice."""
        return self.measured_on.get(choice, ())

    def donor(self, cell: Cell, row: int) -> int:
        """Return the row whose states the row gets in a shuffled cell."""
        donors = self.donors[seed_of(cell)]
        if cell.condition.lone_rows == "nearest" and row in donors.nearest:
            return donors.nearest[row]
        return donors.of_row[row]

    def origin(self, cell: Cell, row: int) -> int:
        """Return the row whose content a row gets in a cell: its donor, or itself."""
        return self.donor(cell, row) if cell.condition.shuffled else row

    def sent(self, cell: Cell, row: int) -> TokenIds:
        """Return the sender's ids of what a row gets in a cell that reads the sender."""
        return self.prompts.sent(cell.condition.sender_context, self.origin(cell, row))

    def turns(self, cell: Cell, row: int) -> Turns:
        """Return the ids of all turns of senders of what a row gets in a cell."""
        senders = cell.condition.senders
        if senders is None:
            if cell.condition.deltas is None or not cell.condition.shuffled:
                return (self.sent(cell, row),)
            # The row's own text, with what another row's has on it.
            return self.prompts.sent(cell.condition.sender_context, row), self.sent(cell, row)
        deal = senders.readers, cell.condition.sender_context
        return self.prompts.dealt[deal][self.origin(cell, row)] * senders.rounds

    def donor_uses(self, cell: Cell) -> dict[str, Any]:
        """Return facts of a shuffled cell's donors, for the manifest.

        `distinct` donors, the number of rows that the `most_used` one gives to, and the ids of
        the rows whose donor has the `same_answer`, an alias included.
        """
        rows = [row for row in range(self.limit) if self.included(cell, row)]
        donors = [self.donor(cell, row) for row in rows]
        names = {row: answer_names(self.rows[row]) for row in {*rows, *donors}}
        pairs = [(row, donor) for row, donor in zip(rows, donors, strict=True) if row != donor]
        uses = Counter(donor for _, donor in pairs)
        return {
            "distinct": len(uses),
            "most_used": max(uses.values(), default=0),
            "same_answer": [
                self.rows[row].row_id
                for row, donor in pairs
                if not names[row].isdisjoint(names[donor])
            ],
        }

    def translator_key(self, cell: Cell) -> TranslatorKey:
        """Return which translator a translating cell uses."""
        return self.experiment.translator_set(cell.condition), seed_of(cell)

    def lanes(self, group: Group) -> Iterator[tuple[Cell, int]]:
        """Yield a group's lanes, cell and row index, in the order in which they are committed."""
        cells = [(cell, _may_leave_out(cell)) for cell in group.cells]
        for row in group.rows:
            for cell, asked in cells:
                if not asked or self.included(cell, row):
                    yield cell, row

    @property
    def lane_counts(self) -> list[int]:
        """Number of lanes of each group."""
        return [self._lane_count(group) for group in self.groups]

    def _lane_count(self, group: Group) -> int:
        # Most cells have all rows; to ask for each lane of a large plan would take minutes.
        asked = [cell for cell in group.cells if _may_leave_out(cell)]
        whole = len(group.rows) * (len(group.cells) - len(asked))
        return whole + sum(self.included(cell, row) for cell in asked for row in group.rows)


def _may_leave_out(cell: Cell) -> bool:
    """Whether a cell can be without some rows; see `Plan.included`."""
    condition = cell.condition
    return isinstance(condition.layers, LayerShare) or (
        condition.shuffled and condition.lone_rows != "self"
    )


def seed_of(cell: Cell) -> int:
    """Return the seed of a cell that has one."""
    if cell.seed is None:
        raise ValueError(f"cell {cell.name} has no seed")
    return cell.seed
