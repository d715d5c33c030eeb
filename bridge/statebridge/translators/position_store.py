"""Positions of a corpus kept on disk, so that memory does not grow with it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np
import numpy.typing as npt
import torch

from statebridge.errors import EnvironmentFault, NumericError
from statebridge.translators.positions import (
    BLOCK_SIZE,
    PositionBatch,
    check_batch,
    checked_batches,
)
from statebridge.translators.settings import StoreDtype


class _Side:
    """One side's states: an unnamed temporary file of rows, mapped for reading."""

    def __init__(self, width: int, dtype: StoreDtype, directory: Path | None) -> None:
        self.width = width
        self.dtype = np.dtype(dtype)
        # The file has no name in the directory: a killed run leaves nothing behind.
        self.file: IO[bytes] = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115
        self.mapped: npt.NDArray[Any] | None = None

    def write(self, states: torch.Tensor) -> None:
        self.mapped = None
        self.file.write(states.numpy().data)
        self.file.flush()  # so that a full disk shows here, not at some later read

    def read(self, rows: npt.NDArray[np.int64] | slice, count: int) -> torch.Tensor:
        if self.mapped is None:
            self.mapped = np.memmap(self.file, self.dtype, "r", shape=(count, self.width))
        return torch.from_numpy(np.array(self.mapped[rows], dtype=np.float32))


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
        self.dtype: StoreDtype = dtype
        self._count = 0
        try:
            self._sender = _Side(width_in, dtype, directory)
            self._receiver = _Side(width_out, dtype, directory)
        except OSError as error:
            raise EnvironmentFault(
                f"cannot keep positions in {directory or tempfile.gettempdir()}: "
                f"{error.strerror}; give a directory that can be written to"
            ) from error

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
            kept = states.detach().to("cpu", getattr(torch, self.dtype)).contiguous()
            if not bool(torch.isfinite(kept).all()):
                raise NumericError(
                    f"a {side} state after corpus position {self._count} exceeds the range of "
                    f"{self.dtype}; store positions as float32"
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
        return (self.width_in + self.width_out) * np.dtype(self.dtype).itemsize

    def rows(self, indices: torch.Tensor) -> PositionBatch:
        """Return the positions of `indices` (n,), int64, in that order, float32 on the CPU."""
        picked = indices.numpy()
        return self._sender.read(picked, self._count), self._receiver.read(picked, self._count)

    def batches(
        self, start: int = 0, stop: int | None = None, size: int = BLOCK_SIZE
    ) -> Iterator[PositionBatch]:
        """Pass over positions `start` to `stop` (excluded) in corpus order, `size` at a time."""
        stop = self._count if stop is None else min(stop, self._count)
        for first in range(start, stop, size):
            part = slice(first, min(first + size, stop))
            yield self._sender.read(part, self._count), self._receiver.read(part, self._count)

    def close(self) -> None:
        """Give the disk space back; the store cannot be used afterwards."""
        for side in (self._sender, self._receiver):
            side.mapped = None
            # Closing flushes once more, which fails again where the disk was full.
            with suppress(OSError):
                side.file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
