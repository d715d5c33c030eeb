"""State deltas on the sender's text: SDE (arXiv 2506.19209).

The receiver reads the sender's tokens in front of its prompt. At each of them the change of the
sender's states from the token before is added to its own at the same layers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from statebridge.channels.messages.filled import noise
from statebridge.channels.workload import Workload
from statebridge.errors import ExperimentError, PairError
from statebridge.experiment.cells import Cell
from statebridge.experiment.message import Deltas
from statebridge.models.messages.input_vectors import (
    VectorReader,
    Vectors,
    input_vectors,
    write_tokens,
)
from statebridge.models.traced_model import TracedModel
from statebridge.runs.plan import TokenIds, Turns

ID_BYTES = 4
"""Bytes of a token's id as it is sent."""


def check_deltas(work: Workload, cell: Cell) -> None:
    """Refuse layers that a model lacks, and states of another width.

    Raises:
        ExperimentError: A layer is out of range.
        PairError: The widths differ.
    """
    deltas, sender, receiver = cell.condition.deltas, work.pair.sender, work.pair.receiver
    if deltas is None:
        return
    where, depths = f"condition {cell.condition.name}", _depths(sender, receiver)
    depth = min(depths)
    for layer in deltas.layers:
        if not -depth <= layer < depth:
            raise ExperimentError(
                f"{where}: deltas at layer {layer} are out of range; both "
                f"models have {depth} blocks at least, 0 to {depth - 1} (or -{depth} to -1)"
            )
        if layer < 0 and len(set(depths)) > 1:
            raise ExperimentError(
                f"{where}: deltas at layer {layer} are not the same layer in models of "
                f"{depths[0]} and {depths[1]} blocks; count it from 0"
            )
    if deltas.last == "final" and depths[0] - 1 not in _layers(sender, deltas):
        raise ExperimentError(
            f"{where}: last: final goes with the sender's last layer, {depths[0] - 1}; add it to "
            "layers, or leave last out"
        )
    if sender.width != receiver.width:
        raise PairError(
            f"{where}: deltas of width {sender.width} do not fit a "
            f"receiver of width {receiver.width}; use models of one width"
        )


def _depths(sender: TracedModel, receiver: TracedModel) -> tuple[int, int]:
    return len(sender.block_paths), len(receiver.block_paths)


def _layers(sender: TracedModel, deltas: Deltas) -> list[int]:
    return sorted({layer % len(sender.block_paths) for layer in deltas.layers})


def sent_text(work: Workload, cell: Cell, turns: Sequence[Turns]) -> Vectors:
    """Return the sender's texts as the receiver's input vectors, with what is added on them.

    Args:
        turns: The prompt of each row's text, and, where they are another row's, of its deltas.
    """
    sender, receiver, soft = work.pair.sender, work.pair.receiver, cell.condition.soft_tokens
    assert soft is not None  # noqa: S101 - a condition of this channel has it
    prompts = list(dict.fromkeys(prompt for each in turns for prompt in each))
    texts = dict(zip(prompts, write_tokens(sender, sender.pack(prompts), soft.most), strict=True))
    written = [texts[each[0]] for each in turns]
    sent = text_vectors(receiver, written)
    if soft.deltas is None:
        return sent
    values, lengths = sent.values, sent.lengths
    added = {}
    found = changes(sender, soft.deltas, cell.seed, {each[-1]: texts[each[-1]] for each in turns})
    for layer, of_prompt in found.items():
        states = torch.zeros((len(written), max(lengths), sender.width), device=values.device)
        for row, each in enumerate(turns):
            # Another row's text may be longer or shorter: its first tokens meet the first.
            count = min(lengths[row], len(of_prompt[each[-1]]))
            start = states.shape[1] - lengths[row]
            states[row, start : start + count] = of_prompt[each[-1]][:count].to(values.device)
        added[layer] = states
    size = ID_BYTES + len(added) * sender.width * sender.dtype.itemsize
    return replace(sent, added=added, payload=tuple(size * length for length in lengths))


def text_vectors(model: TracedModel, texts: Sequence[TokenIds]) -> Vectors:
    """Return texts, which are sent as token ids, as the vectors that a model reads."""
    table, lengths = input_vectors(model), tuple(map(len, texts))
    values = table.new_zeros((len(texts), max(lengths), table.shape[1]))
    for row, tokens in enumerate(texts):
        if tokens:
            values[row, -len(tokens) :] = table[list(tokens)]
    return Vectors(values, lengths, payload=tuple(ID_BYTES * length for length in lengths))


def changes(
    sender: TracedModel, deltas: Deltas, seed: int | None, texts: Mapping[TokenIds, TokenIds]
) -> dict[int, dict[TokenIds, torch.Tensor]]:
    """Return what is added at each token of some texts, (tokens, width), by layer and prompt.

    Args:
        texts: What the sender wrote, by the prompt that it read.
    """
    layers = _layers(sender, deltas)
    batch = sender.pack([(*prompt, *text) for prompt, text in texts.items()])
    outputs = layers if deltas.last == "residual" else layers[:-1]
    of_layers = sender.capture_layers(batch, outputs) if outputs else []
    if deltas.last == "final":
        of_layers.append(VectorReader(sender, batch.mask).read(input_ids=batch.ids))
    found: dict[int, dict[TokenIds, torch.Tensor]] = {}
    for layer, states in zip(layers, of_layers, strict=True):
        found[layer] = {}
        for (prompt, text), of_row in zip(texts.items(), states.float(), strict=True):
            read = of_row[of_row.shape[0] - len(text) - 1 :]
            change = read[1:] - read[:-1]
            if deltas.of == "states":
                change = read[1:]
            if deltas.of == "random":
                change = noise(f"{seed} {layer} {prompt}", change)
            found[layer][prompt] = change
    return found
