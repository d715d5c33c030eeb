"""The channel of residual states: the sender's, mapped, written at the receiver's layer.

Sources: arXiv 2606.03280 (translated states of all positions) and arXiv 2501.14082 (raw states of
the last one). Which states are written is the condition's source, `channels.sources`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from statebridge.channels.channel import CHANNELS, LaneRow, Operations
from statebridge.channels.inputs.prompts import TEXTLESS
from statebridge.channels.operators import ALIGNED_AT_THE_END, Written, combine_states
from statebridge.channels.positions import check_meeting, check_widths
from statebridge.channels.workload import Workload
from statebridge.errors import ExperimentError
from statebridge.experiment.cells import Cell
from statebridge.experiment.conditions import CHANNEL_OF_SITE, SenderContext
from statebridge.experiment.sources import SOURCES
from statebridge.models.token_batch import TokenBatch
from statebridge.models.traced_model import check_finite
from statebridge.runs.plan import TokenIds, TranslatorKey
from statebridge.translators import Translator


@CHANNELS.add("states")
class StatesChannel:
    """Writes states at one layer; `source: none` writes nothing and is the receiver alone."""

    def check(self, workload: Workload, cells: Sequence[Cell]) -> None:
        """Refuse prompts of text, positions that do not meet, and widths that do not fit."""
        for condition in (cell.condition for cell in cells):
            if condition.site in CHANNEL_OF_SITE:
                raise ExperimentError(
                    f"condition {condition.name}: site {condition.site} goes with channel "
                    f"{CHANNEL_OF_SITE[condition.site]}, not states"
                )
            if condition.uses_text:
                raise ExperimentError(
                    f"condition {condition.name}: channel states takes prompt "
                    f"{', '.join(TEXTLESS)}; prompt {condition.prompt} goes with channel text"
                )
        check_meeting(workload, cells)
        check_widths(workload, cells)

    def carry(
        self, operations: Operations, cells: Sequence[Cell], rows: Sequence[int]
    ) -> list[LaneRow]:
        """Run the sender once for all cells, and write what each cell declares."""
        work = operations.workload
        sent = capture_sender(work, cells, rows)

        def states(
            cell: Cell, some: Sequence[int], own: torch.Tensor, batch: TokenBatch
        ) -> Written:
            return _written(Request(work, cell, some, own, batch, sent))

        return operations.write_states(cells, rows, states)


Sent = int | tuple[SenderContext, int]
"""A prompt of the sender: a row index, or another context and the row whose question it has."""


@dataclass(frozen=True, slots=True)
class SenderStates:
    """The sender's states of a group's rows and of their donors, on the receiver's device.

    Attributes:
        batch: Their prompts.
        states: (rows and donors, positions, sender width).
        place: Index in the batch by row index, of other contexts by context and row index.
        translated: States in the receiver's width, by translator.
    """

    batch: TokenBatch
    states: torch.Tensor
    place: Mapping[Sent, int]
    translated: Mapping[TranslatorKey, torch.Tensor]


@dataclass(frozen=True, slots=True)
class Request:
    """The request to a source for the states that one cell writes for some rows.

    Attributes:
        rows: Row indices, in the order of `own` and `batch`.
        own: (rows, positions, width) the receiver's states at its layer.
        batch: The receiver's prompts.
        sent: The sender's states, where the cell reads them.
    """

    workload: Workload
    cell: Cell
    rows: Sequence[int]
    own: torch.Tensor
    batch: TokenBatch
    sent: SenderStates | None

    @property
    def donors(self) -> list[int]:
        """Row indices of each row's donor, for a source with `shuffled`."""
        if not self.cell.condition.shuffled:
            raise self._undeclared("donors", "shuffled", ", or take request.rows")
        return [self.workload.plan.donor(self.cell, row) for row in self.rows]

    def sender_states(self, rows: Sequence[int]) -> tuple[torch.Tensor, TokenBatch]:
        """Return the sender's states of rows, as they are, with their prompts."""
        sent, index, batch = self._sent_of(rows)
        states = sent.states[index]
        # arXiv 2501.14082: where widths differ, the last min(width) dimensions line up.
        common = min(self.own.shape[-1], states.shape[-1])
        return states[..., states.shape[-1] - common :], batch

    def translated_states(self, rows: Sequence[int]) -> tuple[torch.Tensor, TokenBatch]:
        """Return the sender's states of rows through the cell's translator, with their prompts."""
        if not self.cell.condition.translates:
            raise self._undeclared("translated states", "translates")
        sent, index, batch = self._sent_of(rows)
        key = self.workload.plan.translator_key(self.cell)
        return sent.translated[key][index], batch

    def noise(self) -> torch.Tensor:
        """Return the rows' random draws in the shape of `own`."""
        if not self.cell.condition.draws_noise:
            raise self._undeclared("random draws", "draws_noise")
        noise = torch.zeros(self.own.shape, dtype=torch.float32)
        for place, row in enumerate(self.rows):
            draw = self.workload.noise_of(self.cell, row)
            noise[place, self.own.shape[1] - draw.shape[0] :] = draw
        return noise.to(self.own.device)

    def _sent_of(self, rows: Sequence[int]) -> tuple[SenderStates, torch.Tensor, TokenBatch]:
        if self.sent is None or not self.cell.condition.reads_sender:
            raise self._undeclared("the sender's states", "reads_sender")
        plan = self.workload.plan
        if set(rows) - {plan.origin(self.cell, row) for row in self.rows}:
            # Other rows are there only where another condition of the group reads them.
            whose = "request.donors" if self.cell.condition.shuffled else "request.rows"
            raise ExperimentError(
                f"condition {self.cell.name}: its source {self.cell.condition.source} asks for the "
                f"sender's states of other rows than it reads; take those of {whose}"
            )
        context = self.cell.condition.sender_context
        places = [self.sent.place[row if context is None else (context, row)] for row in rows]
        index = torch.tensor(places, device=self.own.device)
        return self.sent, index, self.sent.batch.select(places)

    def _undeclared(self, what: str, fact: str, instead: str = "") -> ExperimentError:
        return ExperimentError(
            f"condition {self.cell.name}: its source {self.cell.condition.source} asks for {what} "
            f"and does not declare {fact}; set it to True{instead}"
        )


def capture_sender(
    workload: Workload, cells: Sequence[Cell], rows: Sequence[int]
) -> SenderStates | None:
    """Run the sender once over a group's rows and donors; translate once for each translator.

    None where no cell reads the sender.
    """
    needed = prompts_to_send(workload, cells, rows)
    if not needed:
        return None
    sender, receiver = workload.pair.sender, workload.pair.receiver
    prompts = list(needed.values())
    batch = sender.pack(prompts)
    moved = sender.capture(batch).to(receiver.device)
    if sender.device != receiver.device:
        # From here on the sender's states and their masks are where the receiver's are.
        batch = TokenBatch.pack(prompts, sender.pad_id, receiver.device)
    keys = {workload.plan.translator_key(cell) for cell in cells if cell.condition.translates}
    translated: dict[TranslatorKey, torch.Tensor] = {}
    for key in sorted(keys):
        translated[key] = translate(workload.translators[key], moved)
        check_finite(translated[key], batch.mask, f"translator {key[0]} of seed {key[1]}")
    return SenderStates(batch, moved, {sent: i for i, sent in enumerate(needed)}, translated)


def prompts_to_send(
    workload: Workload, cells: Sequence[Cell], rows: Sequence[int]
) -> dict[Sent, TokenIds]:
    """Return the sender's prompts that a group needs: of its rows, donors, other contexts."""
    plan = workload.plan
    needed: dict[Sent, TokenIds] = {}
    for cell in cells:
        context = cell.condition.sender_context
        if not cell.condition.reads_sender:
            continue
        for row in rows:
            if plan.included(cell, row):
                origin = plan.origin(cell, row)
                needed[origin if context is None else (context, origin)] = plan.sent(cell, row)
    return needed


def translate(translator: Translator, states: torch.Tensor) -> torch.Tensor:
    """Translate states (..., sender width) to (..., receiver width) in the translator's dtype."""
    with torch.no_grad():
        translated: torch.Tensor = translator(states.to(translator.dtype))
    return translated


def _checked_states(answer: object, request: Request) -> tuple[torch.Tensor, TokenBatch]:
    """Refuse what a source returned unless it is states of every row, with their prompts."""
    condition, rows = request.cell.condition, len(request.rows)
    match answer:
        case (torch.Tensor() as states, TokenBatch() as batch) if states.ndim == 3:
            of, positions, width = states.shape
            prompts = tuple(batch.mask.shape)
            if (of, positions) == prompts == (rows, positions) and width <= request.own.shape[-1]:
                return states, batch
            returned = f"states of shape {(of, positions, width)} and prompts of shape {prompts}"
        case _:
            returned = f"{type(answer).__name__}"
    raise ExperimentError(
        f"condition {condition.name}: source {condition.source} returned {returned}; it must "
        f"return a tensor of {rows} rows × positions of their prompts × at most "
        f"{request.own.shape[-1]}, and these prompts"
    )


def _as_wide(
    request: Request, states: torch.Tensor, batch: TokenBatch
) -> tuple[torch.Tensor, TokenBatch]:
    """Cut or add left padding, so that a source is as wide as the receiver's batch."""
    extra = states.shape[1] - request.own.shape[1]
    if request.cell.condition.source_positions not in ALIGNED_AT_THE_END or extra == 0:
        return states, batch
    pad = torch.nn.functional.pad
    return pad(states, (0, 0, -extra, 0)), TokenBatch(
        pad(batch.ids, (-extra, 0)), pad(batch.mask, (-extra, 0)), batch.lengths
    )


def _written(request: Request) -> Written:
    """Return the states that a cell writes for some rows of a group."""
    condition, own, batch = request.cell.condition, request.own, request.batch
    answer = SOURCES.get(condition.source)().states(request)
    source, source_batch = _as_wide(request, *_checked_states(answer, request))
    spans = request.workload.plan.prompts.spans(condition, request.rows)
    written = combine_states(condition, own, batch, source, source_batch, spans)
    check_finite(written.states, batch.mask, f"condition {request.cell.name}")
    return written
