"""Positions of a corpus kept on disk, so that memory does not grow with it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Self

import torch

from statebridge.errors import EnvironmentFault, NumericError
from statebridge.experiment.translator_settings import StoreDtype
from statebridge.translators.positions import (
    BLOCK_SIZE,
    PositionBatch,
    check_batch,
    checked_batches,
)
from statebridge.translators.state_file import StateFile


class PositionStore:
    """Pairs of sender and receiver states in corpus order, spilled to temporary files.

    Appended in memory-bounded batches, read back as float32 through a memory map, whose
    pages the system may drop at any time. `dtype` float16 halves the space on disk and
    rounds each entry to about three digits. The files lie in `directory` (default: the
    system's temporary directory; give another where that is held in memory) and vanish
    with `close()` or the process.
    """

    def __init__(
        self,
        width_in: int,
        width_out: int,
        *,
        dtype: StoreDtype = "float32",
        directory: Path | None = None,
    ) -> None:
        self.width_in = width_in
        self.width_out = width_out
        self._dtype: torch.dtype = getattr(torch, dtype)
        self._count = 0
        self._sender = StateFile(width_in, self._dtype, directory)
        self._receiver = StateFile(width_out, self._dtype, directory)

    @classmethod
    def from_batches(
        cls,
        batches: Iterable[PositionBatch],
        *,
        dtype: StoreDtype = "float32",
        directory: Path | None = None,
    ) -> Self:
        """Store a whole stream; the widths are those of its first batch.

        Raises as `append` does, and `TranslatorError` where the stream is empty.
        """
        store: Self | None = None
        try:
            for sender, receiver in checked_batches(batches):
                if store is None:
                    store = cls(
                        sender.shape[1], receiver.shape[1], dtype=dtype, directory=directory
                    )
                store._write(sender, receiver)
        except BaseException:
            if store is not None:
                store.close()
            raise
        assert store is not None, "checked_batches refuses an empty stream"  # noqa: S101
        return store

    def append(self, sender: torch.Tensor, receiver: torch.Tensor) -> None:
        """Add the states of the next positions: (n, width_in) and (n, width_out).

        Raises `TranslatorError` on other shapes, `NumericError` on NaN, infinity or an
        entry beyond the range of a float16 store, `EnvironmentFault` on a full disk.
        """
        check_batch((sender, receiver), self.width_in, self.width_out, self._count)
        self._write(sender, receiver)

    def _write(self, sender: torch.Tensor, receiver: torch.Tensor) -> None:
        rows = []
        for side, states in (("sender", sender), ("receiver", receiver)):
            kept = states.detach().to("cpu", self._dtype).contiguous()
            if not bool(torch.isfinite(kept).all()):
                raise NumericError(
                    f"a {side} state after corpus position {self._count} exceeds the range of "
                    f"{str(self._dtype).removeprefix('torch.')}; store positions as float32"
                )
            rows.append(kept)
        try:
            self._sender.write(rows[0])
            self._receiver.write(rows[1])
        except OSError as error:
            self.close()
            raise EnvironmentFault(
                f"cannot store corpus positions from {self._count} on: {error.strerror}; each "
                f"position takes {self.bytes_per_position} bytes of temporary space"
            ) from error
        self._count += len(sender)

    def __len__(self) -> int:
        return self._count

    @property
    def bytes_per_position(self) -> int:
        """Space that one position takes on disk."""
        return self._sender.bytes_per_state + self._receiver.bytes_per_state

    def rows(self, indices: torch.Tensor) -> PositionBatch:
        """Return the positions of `indices` (n,), int64, in that order, float32 on the CPU."""
        picked = indices.numpy()
        return self._sender.read(picked), self._receiver.read(picked)

    def batches(
        self, start: int = 0, stop: int | None = None, size: int = BLOCK_SIZE
    ) -> Iterator[PositionBatch]:
        """Pass over positions `start` to `stop` (excluded) in corpus order, `size` at a time."""
        stop = self._count if stop is None else min(stop, self._count)
        for first in range(start, stop, size):
            part = slice(first, min(first + size, stop))
            yield self._sender.read(part), self._receiver.read(part)

    def close(self) -> None:
        """Give the disk space back; the store cannot be used afterwards."""
        self._sender.close()
        self._receiver.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
