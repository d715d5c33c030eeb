"""Messages filled with noise or zeros: as long as the row's own, without what it holds.

The noise has the norm of each of the message's entries: of a key or a value in each head, or of a
vector, at each position. It is drawn by the seed and by the prompts that the senders read, so a row
alone gets what it gets in a batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Sequence
from dataclasses import replace

import torch

from statebridge.experiment.cells import Cell
from statebridge.models.messages.input_vectors import Vectors
from statebridge.models.messages.key_values import KeyValues
from statebridge.runs.plan import Turns


def noise(key: str, like: torch.Tensor) -> torch.Tensor:
    """Return noise, (..., width), of the norm of each entry, drawn by the SHA-256 of a key."""
    number = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") >> 1
    generator = torch.Generator().manual_seed(number)
    drawn = torch.randn(like.shape, generator=generator).to(like.device)
    norms = like.float().norm(dim=-1, keepdim=True)
    found: torch.Tensor = drawn / drawn.norm(dim=-1, keepdim=True) * norms
    return found.to(like.dtype)


def filling(cell: Cell) -> Hashable:
    """Return what a cell's messages are filled with; equal where one pass serves two cells."""
    what = cell.condition.filled_with
    return what and (what, cell.seed)


def filled_cache(cell: Cell, message: KeyValues, turns: Sequence[Turns]) -> KeyValues:
    """Return keys and values as a cell declares: as they are, noise, or zeros.

    Args:
        turns: Of each row, the prompts that its senders read.
    """
    if cell.condition.filled_with is None:
        return message
    layers = tuple(
        (
            _filled(cell, message.lengths, turns, f"key {block}", keys),
            _filled(cell, message.lengths, turns, f"value {block}", values),
        )
        for block, (keys, values) in enumerate(message.layers)
    )
    return replace(message, layers=layers)


def filled_vectors(cell: Cell, message: Vectors, turns: Sequence[Turns]) -> Vectors:
    """Return vectors as a cell declares: as they are, noise, or zeros."""
    if cell.condition.filled_with is None:
        return message
    values = _filled(cell, message.lengths, turns, "vector", message.values)
    return replace(message, values=values)


def _filled(
    cell: Cell, lengths: Sequence[int], turns: Sequence[Turns], part: str, own: torch.Tensor
) -> torch.Tensor:
    """Return entries of the shape of some, (rows, ..., positions, width), padded on the left."""
    filled = torch.zeros_like(own)
    if cell.condition.filled_with == "random":
        for row, (length, prompts) in enumerate(zip(lengths, turns, strict=True)):
            start = own.shape[-2] - length
            drawn = noise(f"{cell.seed} {part} {prompts}", own[row, ..., start:, :])
            filled[row, ..., start:, :] = drawn
    return filled
