"""Source states by condition: translated, shuffled, raw, own, random, zero."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from statebridge.channels.operators import ALIGNED_AT_THE_END, Written, write_states
from statebridge.engine.planning.workload import TranslatorKey, Workload
from statebridge.errors import ExperimentError
from statebridge.experiment.cells import Cell
from statebridge.models.token_batch import TokenBatch
from statebridge.models.traced_model import check_finite
from statebridge.translators import Translator


@dataclass(frozen=True, slots=True)
class SenderStates:
    """The sender's states of a group's rows and of their donors.

    Everything stands on the receiver's device.

    Attributes:
        batch: Their prompts.
        states: (rows and donors, positions, sender width).
        place: Where in the batch a row index stands.
        translated: States in the receiver's width, by translator.
    """

    batch: TokenBatch
    states: torch.Tensor
    place: Mapping[int, int]
    translated: Mapping[TranslatorKey, torch.Tensor]


def rows_to_send(workload: Workload, cells: Sequence[Cell], rows: Sequence[int]) -> list[int]:
    """Return the rows whose sender states the group needs: its own and the donors."""
    needed: dict[int, None] = {}
    for cell in cells:
        if not cell.condition.reads_sender:
            continue
        if not cell.condition.shuffled:
            needed.update(dict.fromkeys(rows))
        else:
            included = (row for row in rows if workload.included(cell, row))
            needed.update(dict.fromkeys(workload.donor(cell, row) for row in included))
    return list(needed)


def capture_sender(
    workload: Workload, cells: Sequence[Cell], rows: Sequence[int]
) -> SenderStates | None:
    """Run the sender once over the group's rows and donors; translate once per translator.

    None where no cell reads the sender.
    """
    needed = rows_to_send(workload, cells, rows)
    if not needed:
        return None
    sender, receiver = workload.pair.sender, workload.pair.receiver
    prompts = [workload.prompts.sender[row] for row in needed]
    batch = TokenBatch.pack(prompts, sender.pad_id, sender.device)
    moved = sender.capture(batch).to(receiver.device)
    if sender.device != receiver.device:
        # From here on the sender's states and their masks are where the receiver's are.
        batch = TokenBatch.pack(prompts, sender.pad_id, receiver.device)
    keys = {workload.translator_key(cell) for cell in cells if cell.condition.translates}
    translated: dict[TranslatorKey, torch.Tensor] = {}
    for key in sorted(keys):
        translated[key] = translate(workload.translators[key], moved)
        where = f"translator {key[0]} of seed {key[1]}"
        check_finite(translated[key], batch.mask, where)
    return SenderStates(batch, moved, {row: i for i, row in enumerate(needed)}, translated)


def translate(translator: Translator, states: torch.Tensor) -> torch.Tensor:
    """Translate states (..., sender width) to (..., receiver width) in the translator's dtype."""
    with torch.no_grad():
        translated: torch.Tensor = translator(states.to(translator.dtype))
    return translated


def written_states(
    workload: Workload,
    cell: Cell,
    rows: Sequence[int],
    own: torch.Tensor,
    batch: TokenBatch,
    sent: SenderStates | None,
) -> Written:
    """Return what a cell writes for some rows of a group.

    Args:
        rows: Row indices, in the order of `own` and `batch`.
        own: (rows, positions, width) the receiver's states at the injection layer.
        batch: The receiver's prompts.
        sent: The sender's states, where the cell reads them.
    """
    source, source_batch = _source_states(workload, cell, rows, own, batch, sent)
    spans = [
        span
        for row in rows
        if (span := workload.prompts.span(cell.condition.prompt, cell.condition.positions, row))
    ]
    written = write_states(cell.condition, own, batch, source, source_batch, spans or None)
    check_finite(written.states, batch.mask, f"condition {cell.name}")
    return written


def _source_states(
    workload: Workload,
    cell: Cell,
    rows: Sequence[int],
    own: torch.Tensor,
    batch: TokenBatch,
    sent: SenderStates | None,
) -> tuple[torch.Tensor, TokenBatch]:
    source = cell.condition.source
    if source in ("none", "receiver"):
        return own, batch
    if source == "zero":
        return torch.zeros_like(own), batch
    if source == "random":
        noise = torch.zeros(own.shape, dtype=torch.float32)
        for place, row in enumerate(rows):
            draw = workload.noise_of(cell, row)
            noise[place, own.shape[1] - draw.shape[0] :] = draw
        return noise.to(own.device), batch
    if sent is None:
        raise ExperimentError(f"condition {cell.name} reads the sender, which was not run")
    origin = [workload.donor(cell, row) for row in rows] if cell.condition.shuffled else list(rows)
    places = [sent.place[row] for row in origin]
    index = torch.tensor(places, device=own.device)
    source_batch = sent.batch.select(places)
    if not cell.condition.raw:
        translated = sent.translated[workload.translator_key(cell)][index]
        return _fit_positions(translated, source_batch, cell, own.shape[1])
    states = sent.states[index]
    # arXiv 2501.14082: where widths differ, the last min(width) dimensions line up.
    common = min(own.shape[-1], states.shape[-1])
    return _fit_positions(
        states[..., states.shape[-1] - common :], source_batch, cell, own.shape[1]
    )


def _fit_positions(
    states: torch.Tensor, batch: TokenBatch, cell: Cell, positions: int
) -> tuple[torch.Tensor, TokenBatch]:
    """Cut or add left padding, so that the source is as wide as the receiver's batch."""
    extra = states.shape[1] - positions
    if cell.condition.source_positions not in ALIGNED_AT_THE_END or extra == 0:
        return states, batch
    pad = torch.nn.functional.pad
    return pad(states, (0, 0, -extra, 0)), TokenBatch(
        pad(batch.ids, (-extra, 0)), pad(batch.mask, (-extra, 0)), batch.lengths
    )
