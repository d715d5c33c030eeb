"""A check of parts of one's own: what a row gets must not depend on the rows beside it.

A channel reads the states of a group's rows and donors in one batch, and takes each row's place in
it. One that takes another place, or reads padding, gives wrong rows without an error. So before a
run, some rows go through each such part together and one by one, and what is written is compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from statebridge.channels.channel import (
    CHANNELS,
    LaneRow,
    Messages,
    Operations,
    Reading,
    WriteStates,
)
from statebridge.channels.operators import TINY_NORM, Written
from statebridge.channels.workload import Workload
from statebridge.engine.executors.in_process import open_path
from statebridge.engine.planning.groups import grouped
from statebridge.errors import ExperimentError
from statebridge.experiment.cells import Cell
from statebridge.experiment.sources import SOURCES
from statebridge.experiment.translator_settings import KINDS
from statebridge.models.messages.key_values import KeyValues
from statebridge.models.token_batch import TokenBatch
from statebridge.records import Side
from statebridge.runs.plan import Group, TokenIds

TOLERANCE, TOLERANCE_16_BITS = 1e-3, 0.1
"""Largest distance of a vector from that of the row alone, as a share of its length. Batches of
another size round otherwise: by less than a thousandth in float32, by some hundredths in 16 bits
after many blocks. A wrong place or mask gives another vector altogether."""

NEW_TOKENS = 4
"""Tokens of a text here, at most."""

Key = tuple[Any, ...]
"""Row index, cell, and what of the lane it is."""

Texts = dict[tuple[Side, int, TokenIds], list[int]]
"""Texts by the model that wrote them, its turn and its prompt."""


def check_row_independence(workload: Workload) -> None:
    """Refuse channels, sources and maps of one's own under which rows depend on each other.

    Parts of ours are held to it by tests. On a remote host nothing is checked: it would be jobs.

    Raises:
        ExperimentError: Names the part, the condition and the rows.
    """
    plan = workload.plan
    cells = tuple(cell for cell in plan.cells if _parts(workload, cell))
    if not cells or plan.experiment.runs_remotely:
        return
    new = min(NEW_TOKENS, plan.experiment.decoding.max_new_tokens)
    decoding = plan.experiment.decoding.model_copy(update={"max_new_tokens": new})
    experiment = plan.experiment.model_copy(update={"decoding": decoding})
    plan = grouped(replace(plan, experiment=experiment, cells=cells), plan.limit * len(cells))
    workload = replace(workload, plan=plan)
    alike: dict[tuple[Cell, ...], list[tuple[int, list[int], Group]]] = {}
    for group in plan.groups:
        rows = sorted(group.rows, key=lambda row: _length(workload, row))
        spread = _length(workload, rows[-1]) - _length(workload, rows[0])
        alike.setdefault(group.cells, []).append((spread, rows, group))
    for groups in alike.values():
        _, rows, group = max(groups, key=lambda found: (found[0], len(found[1])))
        # As much padding as there is, and the rows not in the order of their lengths.
        _check(workload, group, list(dict.fromkeys((rows[-1], rows[0]))))


def _length(workload: Workload, row: int) -> int:
    prompts = workload.plan.prompts
    return len((prompts.sender or prompts.receiver)[row])


def _parts(workload: Workload, cell: Cell) -> str:
    """Return the parts of a cell that are not ours, in words; an empty text where all are."""
    condition, used = cell.condition, []
    if condition.channel_name in CHANNELS.added_elsewhere():
        used.append(f"channel {condition.channel_name}")
    if condition.source in SOURCES.added_elsewhere():
        used.append(f"source {condition.source}")
    if condition.translates:
        kind = workload.translators[workload.plan.translator_key(cell)].kind
        if kind in KINDS.added_elsewhere():
            used.append(f"translator kind {kind}")
    return " and ".join(used)


def _check(workload: Workload, group: Group, rows: Sequence[int]) -> None:
    if len(rows) < 2:
        return
    texts: Texts = {}
    together = _found(workload, group, rows, texts)
    for row in rows:
        alone = _found(workload, group, [row], texts)
        beside = {key: value for key, value in together.items() if key[0] == row}
        differs = [key for key in alone.keys() & beside if not _alike(alone[key], beside[key])]
        for _, cell, *_ in [*differs, *(alone.keys() ^ beside.keys())]:
            (other,) = (workload.plan.rows[each].row_id for each in rows if each != row)
            raise ExperimentError(
                f"condition {cell.condition.name}: with {_parts(workload, cell)}, row "
                f"{workload.plan.rows[row].row_id} gets something else beside {other} "
                "than alone; take each row's own place in the sender's states and prompts alike "
                "(sent.place[row], sent.batch.select(places)), read no padding, and draw nothing "
                "but request.noise()"
            )


def _found(
    workload: Workload, group: Group, rows: Sequence[int], texts: Texts
) -> Mapping[Key, torch.Tensor | TokenIds]:
    recorded = _Recorded(open_path(workload), texts)
    CHANNELS.get(group.channel)().carry(recorded, group.cells, rows)
    return recorded.found


def _alike(alone: torch.Tensor | TokenIds, beside: torch.Tensor | TokenIds) -> bool:
    if not isinstance(alone, torch.Tensor) or not isinstance(beside, torch.Tensor):
        return alone == beside
    if alone.shape != beside.shape:
        return False
    most = TOLERANCE_16_BITS if alone.element_size() == 2 else TOLERANCE
    distance = (beside.float() - alone.float()).norm(dim=-1)
    return bool((distance <= most * alone.float().norm(dim=-1).clamp_min(TINY_NORM)).all())


@dataclass(frozen=True, slots=True)
class _Recorded:
    """The operations of a path, and what each lane is given: states, a message or a prompt.

    A text that was written once is given again, so that rounding cannot make it another.
    """

    path: Operations
    texts: Texts
    found: dict[Key, torch.Tensor | TokenIds] = field(default_factory=dict)

    @property
    def workload(self) -> Workload:
        """The workload of the path."""
        return self.path.workload

    def write_states(
        self, cells: Sequence[Cell], rows: Sequence[int], states: WriteStates
    ) -> list[LaneRow]:
        """Record the states at the positions of each row's prompt."""

        def recorded(
            cell: Cell, some: Sequence[int], own: torch.Tensor, batch: TokenBatch
        ) -> Written:
            written = states(cell, some, own, batch)
            for place, row in enumerate(some):
                mask = batch.mask[place]
                self.found[row, cell, "states"] = written.states[place][mask]
                # A path asks for some of the rows only, where they are too many for its memory.
                one = states(cell, [row], own[place : place + 1], batch.select([place]))
                self.found[row, cell, "states of one"] = one.states[0][mask]
            return written

        return self.path.write_states(cells, rows, recorded)

    def prepend(
        self, cells: Sequence[Cell], rows: Sequence[int], messages: Messages
    ) -> list[LaneRow]:
        """Record each row's keys and values."""

        def recorded(cell: Cell, some: Sequence[int]) -> KeyValues:
            message = messages(cell, some)
            for place, row in enumerate(some):
                each = {"": message.select([place]), " of one": messages(cell, [row])}
                for asked, of_row in each.items():
                    for block, (keys, values) in enumerate(of_row.layers):
                        self.found[row, cell, f"keys{asked}", block] = keys
                        self.found[row, cell, f"values{asked}", block] = values
            return message

        return self.path.prepend(cells, rows, recorded)

    def write_text(
        self,
        cell: Cell,
        rows: Sequence[int],
        side: Side,
        turn: int,
        prompts: Sequence[TokenIds],
        new_tokens: int,
    ) -> list[list[int]]:
        """Record each row's prompt, and return a short text."""
        read = [(row, tuple(prompt)) for row, prompt in zip(rows, prompts, strict=True)]
        self.found.update({(row, cell, side, turn): prompt for row, prompt in read})
        new = [each for each in read if (side, turn, each[1]) not in self.texts]
        if new:
            asked_rows, asked = zip(*new, strict=True)
            most = min(new_tokens, NEW_TOKENS)
            made = self.path.write_text(cell, asked_rows, side, turn, asked, most)
            for prompt, text in zip(asked, made, strict=True):
                self.texts[side, turn, prompt] = text
        return [self.texts[side, turn, prompt] for _, prompt in read]

    def answer(
        self, cells: Sequence[Cell], rows: Sequence[int], readings: Sequence[Reading]
    ) -> list[LaneRow]:
        """Record the receiver's prompts."""
        for row, reading in zip(rows, readings, strict=True):
            self.found.update({(row, cell, "reading"): tuple(reading.prompt) for cell in cells})
        return self.path.answer(cells, rows, readings)
