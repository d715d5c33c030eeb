"""The channel of soft tokens: vectors that the receiver reads in front of its prompt.

`vocab` needs no training and no common vocabulary: a mixture of the receiver's input vectors, by
the sender's probabilities of the tokens that both have. `cipher` (arXiv 2310.06272) is the sender's
text with a mixture in the place of each token. `resampler` is a map that was trained through the
receiver. The receiver's own tokens take the positions behind.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import partial

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
from statebridge.channels.messages.state_deltas import check_deltas, sent_text
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
)
from statebridge.models.messages.key_values import KeyValues
from statebridge.models.messages.shared_tokens import shared_tokens
from statebridge.models.pair import Pair
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
            if declared.by != "resampler":
                check_attention(workload.pair.sender, f"soft_tokens by {declared.by}")
            if declared.by == "resampler":
                _check_resampler(workload, cell)
            elif declared.by in ("cipher", "text"):
                _check_vocabulary(workload, declared)
                check_deltas(workload, cell)
            else:
                shared_tokens(workload.pair.sender, workload.pair.receiver)
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
            return _declared(cell), cell.condition.source_positions, key, drawn, filling(cell)

        def read(cell: Cell, turns: Sequence[Turns]) -> Vectors:
            if _declared(cell).by == "text" and cell.condition.senders is None:
                return sent_text(work, cell, turns)
            # Each of several senders reads its part alone.
            made = [_vectors(work, cell, each) for each in zip(*turns, strict=True)]
            return filled_vectors(cell, Vectors.joined(made), turns)

        return carry_messages(operations, cells, rows, alike, read, message)

    def message(self, work: Workload, cell: Cell, rows: Sequence[int]) -> KeyValues:
        """Return the rows' messages; gradients reach their map where it has any."""
        made = _vectors(work, cell, [work.plan.sent(cell, row) for row in rows])
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
    declared, turns = _declared(cell), work.plan.turns(cell, row)
    if declared.by == "resampler":
        return int(work.translators[work.plan.translator_key(cell)].options["vectors"])
    if declared.by in ("cipher", "text"):
        for prompt in turns:
            check_steps(work, cell, row, len(prompt), declared.most)
        if cell.condition.senders is None:
            return declared.most
        return declared.most * len(turns)
    return len(turns) if cell.condition.source_positions == "last" else sum(map(len, turns))


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


def _vectors(work: Workload, cell: Cell, prompts: Sequence[TokenIds]) -> Vectors:
    """Return the sender's message of vectors after each prompt, on the receiver's device."""
    sender, receiver, declared = work.pair.sender, work.pair.receiver, _declared(cell)
    batch = sender.pack(prompts)
    if declared.by == "resampler":
        translator = work.translators[work.plan.translator_key(cell)]
        sent = sender.capture(batch).to(receiver.device, translator.dtype)
        sent = l2_normalise(sent) if translator.normalize_input else sent
        vectors: torch.Tensor = translator.map(sent, batch.mask.to(receiver.device))
        norm = mean_norm(input_vectors(receiver))
        return Vectors(rescaled(vectors, norm), (vectors.shape[1],) * len(prompts))
    if declared.by == "text":
        return sent_text(work, cell, [(prompt,) for prompt in prompts])
    if declared.by == "cipher":
        of = sender if declared.embedding == "sender" else receiver
        table = input_vectors(of).float().to(sender.device)
        made = write_mixtures(sender, batch, declared.most, declared.temperature, table)
        return made.to(receiver.device)
    if "shared tokens" not in work.found:
        work.found["shared tokens"] = shared_tokens(sender, receiver)
    own, theirs = work.found["shared tokens"]
    states = VectorReader(sender, batch.mask).read(input_ids=batch.ids)
    lengths = batch.lengths
    if cell.condition.source_positions == "last":
        states, lengths = states[:, -1:], (1,) * len(lengths)
    inputs = input_vectors(receiver)
    norm, table = mean_norm(inputs), inputs[theirs].float()
    rows = []
    for of_row in states:  # one row's logits at a time: a vocabulary is wide
        logits = next_token_logits(sender, of_row).float()[:, own] / declared.temperature
        rows.append(rescaled(logits.softmax(dim=-1).to(receiver.device) @ table, norm))
    return Vectors(torch.stack(rows), tuple(lengths))
