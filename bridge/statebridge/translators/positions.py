"""Streams of paired positions: sender and receiver states of the same tokens."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch

from statebridge.errors import NumericError, TranslatorError

PositionBatch = tuple[torch.Tensor, torch.Tensor]
"""Sender states (n, width_in) and receiver states (n, width_out) of the same n positions."""

NO_POSITIONS = "the corpus gave no positions; a translator needs some text"

BLOCK_SIZE = 4096
"""Positions that are worked on at once: about 28 MB a side in float64 at width 896."""


def check_batch(batch: PositionBatch, width_in: int, width_out: int, first: int) -> None:
    """Refuse a batch that is not two matrices of the given widths over the same positions.

    `first` is the index of its first position in the stream, for messages. Raises
    `TranslatorError` on shapes, `NumericError` on NaN or infinity.
    """
    sender, receiver = batch
    for side, states, width in (("sender", sender, width_in), ("receiver", receiver, width_out)):
        if states.ndim != 2 or states.shape[1] != width:
            raise TranslatorError(
                f"{side} states at position {first} have shape {tuple(states.shape)}; "
                f"right is (positions, {width})"
            )
    if len(sender) != len(receiver):
        raise TranslatorError(
            f"at position {first} the sender gives {len(sender)} positions and the receiver "
            f"{len(receiver)}; both must be states of the same tokens"
        )
    for side, states in (("sender", sender), ("receiver", receiver)):
        finite = torch.isfinite(states).all(dim=1)
        if not bool(finite.all()):
            bad = first + int(finite.logical_not().nonzero()[0])
            raise NumericError(f"the {side} state at corpus position {bad} holds NaN or infinity")


def checked_batches(
    batches: Iterable[PositionBatch], width_in: int | None = None, width_out: int | None = None
) -> Iterator[PositionBatch]:
    """Pass on the non-empty batches, each checked; widths are the first batch's if not given.

    Raises as `check_batch` does, and `TranslatorError` where there is no position at all.
    """
    seen = 0
    for sender, receiver in batches:
        width_in = sender.shape[-1] if width_in is None else width_in
        width_out = receiver.shape[-1] if width_out is None else width_out
        check_batch((sender, receiver), width_in, width_out, seen)
        if len(sender):
            seen += len(sender)
            yield sender, receiver
    if not seen:
        raise TranslatorError(NO_POSITIONS)


def fixed_blocks(
    batches: Iterable[PositionBatch], size: int = BLOCK_SIZE
) -> Iterator[PositionBatch]:
    """Regroup batches into blocks of exactly `size` positions, the last one shorter.

    Sums over the blocks are then the same bits however the stream was cut. At most `size`
    positions plus one incoming batch are held.
    """
    held: list[PositionBatch] = []
    count = 0
    for sender, receiver in batches:
        start = 0
        while len(sender) - start >= size - count:
            stop = start + size - count
            held.append((sender[start:stop], receiver[start:stop]))
            yield _joined(held)
            held, count, start = [], 0, stop
        if start < len(sender):
            held.append((sender[start:], receiver[start:]))
            count += len(sender) - start
    if held:
        yield _joined(held)


def _joined(parts: list[PositionBatch]) -> PositionBatch:
    if len(parts) == 1:
        return parts[0]
    return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])
