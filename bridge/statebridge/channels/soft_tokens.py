"""The channel of soft tokens: vectors that the receiver reads in front of its prompt.

`vocab` needs no training and no common vocabulary: a mixture of the receiver's input vectors, by
the sender's probabilities of the tokens that both have. `cipher` (arXiv 2310.06272) is the sender's
text with a mixture in the place of each token. `resampler` is a map that was trained through the
receiver. The receiver's own tokens take the positions behind.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from statebridge.channels.channel import CHANNELS, LaneRow, Operations
from statebridge.channels.messages.filled import filled_vectors, filling
from statebridge.channels.messages.sending import (
    carry_messages,
    check_appending,
    check_attention,
    check_lengths,
    check_steps,
)
from statebridge.channels.messages.state_deltas import check_deltas, sent_text, text_vectors
from statebridge.channels.workload import Workload
from statebridge.errors import PairError, TranslatorError
from statebridge.experiment.cells import Cell
from statebridge.experiment.message import SoftTokens
from statebridge.experiment.translator_settings import RESAMPLER_KIND, ResamplerSettings
from statebridge.models.messages.input_vectors import (
    VectorReader,
    Vectors,
    input_vectors,
    mean_norm,
    next_token_logits,
    read_vectors,
    rescaled,
    write_mixtures,
    write_tokens,
)
from statebridge.models.messages.key_values import KeyValues
from statebridge.models.messages.shared_tokens import shared_tokens
from statebridge.models.pair import Pair
from statebridge.records import Side
from statebridge.runs.plan import TokenIds, Turns
from statebridge.translators import Translator
from statebridge.translators.modules.maps import l2_normalise


@CHANNELS.add("soft_tokens")
class SoftTokenChannel:
    """Prepends vectors in place of tokens."""

    def check(self, workload: Workload, cells: Sequence[Cell]) -> None:
        """Refuse models that have no tokens in common, and messages beyond a window."""
        check_appending(workload, cells, "soft_tokens", "embedding")
        for cell in cells:
            declared = _declared(cell)
            sides = _sides(cell)
            if declared.by != "resampler":
                for side in sorted({*sides}):
                    check_attention(workload.model(side), f"soft_tokens by {declared.by}")
            if declared.by == "resampler":
                _check_resampler(workload, cell)
            elif declared.by in ("cipher", "text"):
                _check_vocabulary(workload, declared)
                check_deltas(workload, cell)
            else:
                for side in sorted({"sender", *sides}):
                    _mixture_tokens(workload, side, "receiver")
            check_lengths(workload, cell, partial(_most, workload, cell))

    def carry(
        self, operations: Operations, cells: Sequence[Cell], rows: Sequence[int]
    ) -> list[LaneRow]:
        """Run the sender once for all cells that make the same vectors, and prepend them."""
        work = operations.workload

        def message(_: Cell, sent: Vectors, places: Sequence[int]) -> KeyValues:
            return read_vectors(work.pair.receiver, sent.select(places))

        def alike(cell: Cell) -> Hashable:
            translates = cell.condition.translates
            key = work.plan.translator_key(cell) if translates else None
            drawn = cell.seed if cell.condition.deltas is not None else None
            read = cell.condition.source_positions, cell.condition.senders
            return _declared(cell), read, key, drawn, filling(cell)

        def read(cell: Cell, turns: Sequence[Turns]) -> Vectors:
            return filled_vectors(cell, _vectors(work, cell, turns), turns)

        return carry_messages(operations, cells, rows, alike, read, message)

    def message(self, work: Workload, cell: Cell, rows: Sequence[int]) -> KeyValues:
        """Return the rows' messages; gradients reach their map where it has any."""
        made = _vectors(work, cell, [work.plan.turns(cell, row) for row in rows])
        return read_vectors(work.pair.receiver, made)


def empty_resampler(pair: Pair, settings: ResamplerSettings) -> Translator:
    """Return a resampler of the pair's widths, all of its linear weights zero."""
    options = {
        "vectors": settings.vectors,
        "hidden_dim": settings.hidden_dim,
        "groups": settings.heads,
    }
    return Translator(RESAMPLER_KIND, pair.sender.width, pair.receiver.width, options=options)


def _declared(cell: Cell) -> SoftTokens:
    declared = cell.condition.soft_tokens
    assert declared is not None  # noqa: S101 - a condition of this site has it
    return declared


def _most(work: Workload, cell: Cell, row: int) -> int:
    declared, senders = _declared(cell), cell.condition.senders
    if declared.by == "resampler":
        return int(work.translators[work.plan.translator_key(cell)].options["vectors"])
    written = declared.most if declared.by in ("cipher", "text") else 0
    last, chained = (
        cell.condition.source_positions == "last",
        senders and senders.topology == "chain",
    )
    whole = 0
    for side, prompt in zip(_sides(cell), work.plan.turns(cell, row), strict=False):
        if written or chained:
            check_steps(work, cell, row, len(prompt), written, whole if chained else 0, side)
        own = written or (1 if last else len(prompt))
        whole = own if senders and senders.passes == "last" else whole + own
    return whole


def _sides(cell: Cell) -> tuple[Side, ...]:
    """Return the model that has each turn."""
    return ("sender",) if cell.condition.senders is None else cell.condition.senders.sides


def _check_resampler(work: Workload, cell: Cell) -> None:
    sender, receiver = work.pair.sender, work.pair.receiver
    translator, name = work.translators[work.plan.translator_key(cell)], cell.condition.name
    if translator.kind != RESAMPLER_KIND:
        raise TranslatorError(
            f"condition {name}: its translator is of kind {translator.kind}, and soft_tokens by "
            f"resampler need {RESAMPLER_KIND}"
        )
    if (translator.width_in, translator.width_out) != (sender.width, receiver.width):
        raise TranslatorError(
            f"condition {name}: its resampler maps width {translator.width_in} to "
            f"{translator.width_out}; {sender.name} to {receiver.name} needs {sender.width} to "
            f"{receiver.width}"
        )


def _check_vocabulary(work: Workload, declared: SoftTokens) -> None:
    sender, receiver = work.pair.sender, work.pair.receiver
    if sender.tokenizer.get_vocab() != receiver.tokenizer.get_vocab():
        raise PairError(
            f"{sender.name} and {receiver.name} have different tokenizers, and soft_tokens by "
            f"{declared.by} needs one vocabulary; use by: vocab"
        )
    if declared.embedding == "sender" and sender.width != receiver.width:
        raise PairError(
            f"soft_tokens.embedding: vectors of {sender.name} have width {sender.width}, and "
            f"{receiver.name} reads {receiver.width}; leave embedding out"
        )


def _vectors(work: Workload, cell: Cell, turns: Sequence[Turns]) -> Vectors:
    """Return the messages of vectors of all turns, joined, on the receiver's device.

    In a chain each sender reads what was sent before, made for it as for the receiver; that crosses
    once more for each reader.
    """
    senders, receiver = cell.condition.senders, work.pair.receiver
    if senders is None:
        if _declared(cell).by == "text":
            return sent_text(work, cell, turns)
        return _made(work, cell, "sender", ("receiver",), [prompt for (prompt,) in turns])[0]
    chained = senders.topology == "chain"
    made: list[dict[Side, Vectors]] = []
    crossed = [0] * len(turns)
    for place, prompts in enumerate(zip(*turns, strict=True)):
        side, before = senders.sides[place], None
        if chained and made:
            sent = Vectors.joined([each[side] for each in made])
            before = read_vectors(work.model(side), sent) if max(sent.lengths) else None
            each_sent = sent.sent_bytes(work.model(side).dtype)
            crossed = list(map(sum, zip(crossed, each_sent, strict=True)))
        later = senders.sides[place + 1 :] if chained else ()
        readers = tuple(dict.fromkeys(("receiver", *later)))
        vectors = _made(work, cell, side, readers, prompts, before)
        made = [] if senders.passes == "last" else made
        made.append(dict(zip(readers, vectors, strict=True)))
    found = Vectors.joined([each["receiver"] for each in made]).to(receiver.device)
    own = found.sent_bytes(receiver.dtype)
    return replace(found, payload=tuple(map(sum, zip(crossed, own, strict=True))))


def _made(
    work: Workload,
    cell: Cell,
    writer: Side,
    readers: Sequence[Side],
    prompts: Sequence[TokenIds],
    before: KeyValues | None = None,
) -> list[Vectors]:
    """Return what a model makes of prompts, for each reader as it reads vectors.

    Args:
        before: Messages in front of the prompts.
    """
    model, declared = work.model(writer), _declared(cell)
    batch, of = model.pack(prompts), [work.model(reader) for reader in readers]
    if declared.by == "resampler":
        (receiver,), translator = of, work.translators[work.plan.translator_key(cell)]
        sent = model.capture(batch).to(receiver.device, translator.dtype)
        sent = l2_normalise(sent) if translator.normalize_input else sent
        vectors: torch.Tensor = translator.map(sent, batch.mask.to(receiver.device))
        norm = mean_norm(input_vectors(receiver))
        return [Vectors(rescaled(vectors, norm), (vectors.shape[1],) * len(prompts))]
    if declared.by == "text":
        texts = write_tokens(model, batch, declared.most, before)
        return [text_vectors(reader, texts) for reader in of]
    if declared.by == "cipher":
        given = [
            work.pair.sender if (side, declared.embedding) == ("receiver", "sender") else reader
            for side, reader in zip(readers, of, strict=True)
        ]
        tables = [
            None if each.module is model.module else input_vectors(each).float().to(model.device)
            for each in given
        ]
        made = write_mixtures(model, batch, declared.most, declared.temperature, tables, before)
        return [each.to(reader.device) for each, reader in zip(made, of, strict=True)]
    states = VectorReader(model, batch.mask, before).read(input_ids=batch.ids)
    lengths = batch.lengths
    if cell.condition.source_positions == "last":
        states, lengths = states[:, -1:], (1,) * len(lengths)
    mixtures = []
    for side, reader in zip(readers, of, strict=True):
        tokens, theirs = _mixture_tokens(work, writer, side)
        inputs = input_vectors(reader)
        norm = mean_norm(inputs)
        of_writer: slice | list[int] = slice(len(tokens))
        if not tokens == theirs == list(range(len(tokens))):
            of_writer, inputs = tokens, inputs[theirs]
        mixtures.append((of_writer, inputs[: len(tokens)].float(), norm))
    rows: list[list[torch.Tensor]] = [[] for _ in readers]
    for of_row in states:  # one row's logits at a time: a vocabulary is wide
        logits = next_token_logits(model, of_row).float() / declared.temperature
        for (of_writer, table, norm), found in zip(mixtures, rows, strict=True):
            weights = logits[:, of_writer].softmax(dim=-1).to(table.device)
            found.append(rescaled(weights @ table, norm))
    return [Vectors(torch.stack(found), tuple(lengths)) for found in rows]


def _mixture_tokens(work: Workload, writer: Side, reader: Side) -> tuple[list[int], list[int]]:
    """Return the ids of the tokens that two models have, as the writer and as the reader has them.

    Raises:
        PairError: They have none in common.
    """
    key: Any = ("shared tokens", writer, reader)
    if key not in work.found:
        work.found[key] = shared_tokens(work.model(writer), work.model(reader))
    found: tuple[list[int], list[int]] = work.found[key]
    return found
