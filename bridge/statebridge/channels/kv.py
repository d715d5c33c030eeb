"""The channel of keys and values: the sender's cache in front of the receiver's prompt.

Source: KVComm (arXiv 2510.03346). Without a map both models have the same key-value heads, as one
model or fine-tunes of one base have; other pairs need a map (`channels.key_value_maps`). The
receiver reads its own whole prompt; its tokens take the positions behind the message.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from statebridge.channels.channel import CHANNELS, LaneRow, Operations
from statebridge.channels.messages.filled import filled_cache, filling
from statebridge.channels.messages.key_value_maps import check_map, mapped, mean_message
from statebridge.channels.messages.layer_choice import chosen_layers, measured_importance
from statebridge.channels.messages.sending import (
    carry_messages,
    check_appending,
    check_family,
    check_lengths,
    check_steps,
)
from statebridge.channels.workload import Workload
from statebridge.errors import ExperimentError, PairError
from statebridge.experiment.cells import Cell
from statebridge.experiment.message import LayerShare
from statebridge.models.messages.input_vectors import (
    LatentMap,
    latent_step,
    read_behind,
    roll_out,
)
from statebridge.models.messages.key_values import KeyValues, cache_heads
from statebridge.models.messages.rotary import check_rotary, moved
from statebridge.models.traced_model import TracedModel
from statebridge.records import Side
from statebridge.runs.plan import TokenIds, Turns


@CHANNELS.add("kv")
class KeyValueChannel:
    """Prepends the sender's keys and values, of all layers or some of them."""

    def check(self, workload: Workload, cells: Sequence[Cell]) -> None:
        """Refuse models whose caches do not fit, and messages that the receiver cannot see."""
        check_appending(workload, cells, "kv", "kv")
        _check_pair(workload, cells)
        for cell in cells:
            if cell.condition.reposition == "rotate":
                for model in _readers(workload, cell):
                    check_rotary(model.module)
            _check_layers(workload, cell)
            check_lengths(workload, cell, partial(_positions, workload, cell))

    def carry(
        self, operations: Operations, cells: Sequence[Cell], rows: Sequence[int]
    ) -> list[LaneRow]:
        """Run the sender once for all cells that send the same prompts, and prepend its cache."""
        work = operations.workload

        def message(cell: Cell, sent: KeyValues, places: Sequence[int]) -> KeyValues:
            return _kept(work, cell, sent.select(places)).shortened(_layers(work, cell))

        def alike(cell: Cell) -> Any:
            facts = cell.condition.source_facts
            key = work.plan.translator_key(cell) if facts.translates else None
            together = cell.condition.senders
            # What several senders send is joined as they read it.
            joined = together and (together, cell.condition.rollout, cell.condition.reposition)
            return _latent_steps(cell), key, facts.of_map, joined, filling(cell)

        def read(cell: Cell, turns: Sequence[Turns]) -> KeyValues:
            if cell.condition.senders is None:
                sent = _sent(work, cell, [prompt for (prompt,) in turns])
            else:
                sent = _of_senders(work, cell, turns)
            return filled_cache(cell, sent, turns)

        return carry_messages(operations, cells, rows, alike, read, message)

    def message(self, work: Workload, cell: Cell, rows: Sequence[int]) -> KeyValues:
        """Return the rows' messages; gradients reach their map where it has any."""
        sent = _sent(work, cell, [work.plan.sent(cell, row) for row in rows])
        return _kept(work, cell, sent).shortened(_layers(work, cell))


def _positions(work: Workload, cell: Cell, row: int) -> int:
    """Return the positions of a row's message; refuses latent steps that the sender cannot make."""
    rollout, senders = cell.condition.rollout, cell.condition.senders
    steps, chained = rollout.steps if rollout else 0, senders and senders.topology == "chain"
    whole, turns = 0, work.plan.turns(cell, row)
    for prompt, side in zip(map(len, turns), _sides(cell), strict=True):
        if rollout is not None or chained:
            check_steps(work, cell, row, prompt, steps, whole if chained else 0, side)
        own = steps + (prompt if rollout is None or rollout.keep == "both" else 0)
        whole = own if senders and senders.passes == "last" else whole + own
    return whole


def _sides(cell: Cell) -> tuple[Side, ...]:
    """Return the model that has each turn."""
    return ("sender",) if cell.condition.senders is None else cell.condition.senders.sides


def _readers(work: Workload, cell: Cell) -> list[TracedModel]:
    return [work.model(side) for side in sorted({*_sides(cell)})]


def _latent_steps(cell: Cell) -> tuple[int, LatentMap | None, int | None]:
    """Return the number of latent steps, their map, and the seed that it is drawn by."""
    rollout = cell.condition.rollout
    if rollout is None or rollout.steps == 0:
        return 0, None, None
    return rollout.steps, rollout.by, cell.seed if cell.condition.latent_seeded else None


def _sent(work: Workload, cell: Cell, prompts: Sequence[TokenIds]) -> KeyValues:
    """Return the sender's keys and values after prompts, or mapped ones, where the receiver is."""
    if cell.condition.source_facts.of_map:
        translator = work.translators[work.plan.translator_key(cell)]
        return mean_message(work.pair, translator, tuple(map(len, prompts)))
    found = _read(work, cell, prompts).to(work.pair.receiver.device)
    if not cell.condition.translates:
        return found
    return mapped(work.pair, work.translators[work.plan.translator_key(cell)], found)


def _read(
    work: Workload,
    cell: Cell,
    prompts: Sequence[TokenIds],
    before: KeyValues | None = None,
    side: Side = "sender",
) -> KeyValues:
    """Return a sender's keys and values after prompts, latent steps included.

    Args:
        before: What it reads in front of them; not returned.
        side: The model that it is.
    """
    sender, (steps, by, seed) = work.model(side), _latent_steps(cell)
    batch = sender.pack(prompts)
    if by is None:
        return read_behind(sender, batch, before)
    key: Any = ("latent step", by, seed, side)
    if key not in work.found:
        work.found[key] = latent_step(sender, by, seed)
    return roll_out(sender, batch, steps, work.found[key], before)


def _of_senders(work: Workload, cell: Cell, turns: Sequence[Turns]) -> KeyValues:
    """Return what several senders send, joined, where the receiver is.

    In a chain each reads what was sent before, which crosses once more for each reader.
    """
    senders, rollout = cell.condition.senders, cell.condition.rollout
    chained = senders is not None and senders.topology == "chain"
    receiver = work.pair.receiver
    made: list[KeyValues] = []
    behind = [0] * len(turns)  # positions of the messages before
    crossed = [0] * len(turns)
    for side, prompts in zip(_sides(cell), zip(*turns, strict=True), strict=True):
        model, before = work.model(side), None
        if chained and any(behind):
            before = KeyValues.joined(made).to(model.device)
        read = _read(work, cell, prompts, before, side)
        starts = behind if chained else [0] * len(turns)
        if rollout is not None and rollout.keep == "latents":
            read = read.last(rollout.steps)
            starts = [start + len(ids) for start, ids in zip(starts, prompts, strict=True)]
        if cell.condition.reposition == "rotate" and max(read.lengths) > 0:
            read = moved(model.module, read, starts, behind)
        made.append(read.to(receiver.device))
        if senders is not None and senders.passes == "last":
            made, behind = made[-1:], [0] * len(turns)
        behind = [sum(lengths) for lengths in zip(behind, read.lengths, strict=True)]
        if chained:
            sent = KeyValues.joined(made).sent_bytes
            crossed = [sum(sizes) for sizes in zip(crossed, sent, strict=True)]
    found = KeyValues.joined(made)
    return replace(found, payload=tuple(crossed)) if chained else found


def _kept(work: Workload, cell: Cell, sent: KeyValues) -> KeyValues:
    """Return the entries that a cell sends: all, or those of the latent steps alone."""
    rollout = cell.condition.rollout
    if cell.condition.senders is not None or rollout is None or rollout.keep == "both":
        return sent
    latents = sent.last(rollout.steps)
    if cell.condition.reposition != "rotate" or rollout.steps == 0:
        return latents
    starts = [length - rollout.steps for length in sent.lengths]
    of = work.pair.receiver if cell.condition.translates else work.pair.sender
    return moved(of.module, latents, starts)


def _layers(work: Workload, cell: Cell) -> frozenset[int]:
    layers, prompt = cell.condition.layers, cell.condition.prompt

    def importance() -> list[float]:
        """Return each layer's importance, measured once for all groups: row by row, own content."""
        translator = work.plan.translator_key(cell) if cell.condition.translates else None
        condition = cell.condition
        made = _latent_steps(cell), condition.rollout, condition.reposition, condition.senders
        key: Any = ("kv importance", layers, prompt, made, translator)
        if key not in work.found:
            assert isinstance(layers, LayerShare)  # noqa: S101 - nothing else asks for it
            rows = work.plan.rows_of(layers)
            senders = cell.condition.senders

            def sent(row: int) -> KeyValues:
                if senders is not None:
                    parts = work.plan.prompts.dealt[senders.readers, None][row]
                    return _of_senders(work, cell, [parts])
                return _kept(work, cell, _sent(work, cell, [work.plan.prompts.sender[row]]))

            read = work.plan.prompts.read(prompt)
            of_rows = [
                measured_importance(work.pair.receiver, read[row], sent(row)) for row in rows
            ]
            work.found[key] = [sum(values) / len(rows) for values in zip(*of_rows, strict=True)]
        found: list[float] = work.found[key]
        return found

    return chosen_layers(layers, len(work.pair.receiver.block_paths), cell.seed, importance)


def _check_pair(workload: Workload, cells: Sequence[Cell]) -> None:
    """Refuse two models whose caches do not fit each other, and maps that do not fit them."""
    sender, receiver = workload.pair.sender, workload.pair.receiver
    check_family(sender, "kv")
    if sender.tokenizer.get_vocab() != receiver.tokenizer.get_vocab():
        raise PairError(
            f"{sender.name} and {receiver.name} have different tokenizers, and channel kv needs "
            "one; use one model, or fine-tunes of one base"
        )
    for cell in cells:
        if cell.condition.translates:
            translator = workload.translators[workload.plan.translator_key(cell)]
            check_map(workload.pair, translator, cell.condition.name)
    if all(cell.condition.translates for cell in cells):
        return
    ours, theirs = (
        (len(model.block_paths), *cache_heads(model.module.config.get_text_config()))
        for model in (sender, receiver)
    )
    if ours != theirs:
        words = "{} blocks of {} key-value heads of width {}"
        raise PairError(
            f"channel kv has no map between {words.format(*ours)} ({sender.name}) and "
            f"{words.format(*theirs)} ({receiver.name}); use one model, fine-tunes of one base, or "
            "source translated with translators of kind kv_ridge"
        )


def _check_layers(workload: Workload, cell: Cell) -> None:
    layers, depth = cell.condition.layers, len(workload.pair.receiver.block_paths)
    for layer in layers if isinstance(layers, tuple) else ():
        if not -depth <= layer < depth:
            raise ExperimentError(
                f"condition {cell.condition.name}: layer {layer} is out of range; the models have "
                f"{depth} blocks, 0 to {depth - 1} (or -{depth} to -1)"
            )
