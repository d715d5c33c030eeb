"""States kept on disk: an unnamed temporary file of rows, mapped for reading."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import torch

from statebridge.errors import EnvironmentFault


def places(starts: Sequence[int], counts: Sequence[int]) -> npt.NDArray[np.int64]:
    """Return the indices of several stretches, one after the other."""
    before = np.cumsum(counts) - counts
    return np.arange(sum(counts)) + np.repeat(np.asarray(starts) - before, counts)


class StateFile:
    """States of one width, appended and read back by index.

    Read through a memory map, whose pages the system may drop at any time. The file lies in
    `directory` (default: the system's temporary directory) and vanishes with `close()` or
    the process.

    Raises:
        EnvironmentFault: No file can be made.
    """

    def __init__(
        self,
        width: int,
        dtype: torch.dtype = torch.float32,
        directory: Path | None = None,
    ) -> None:
        self.width, self.dtype = width, dtype
        try:
            # The file has no name in the directory: a killed run leaves nothing behind.
            self.file: IO[bytes] = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115
        except OSError as error:
            raise EnvironmentFault(
                f"cannot keep states in {directory or tempfile.gettempdir()}: "
                f"{error.strerror}; give a directory that can be written to"
            ) from error
        self._numpy_dtype = np.dtype(str(dtype).removeprefix("torch."))
        self._mapped: npt.NDArray[Any] | None = None
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def bytes_per_state(self) -> int:
        """Space that one state takes on disk."""
        return self.width * self._numpy_dtype.itemsize

    def write(self, states: torch.Tensor) -> None:
        """Append states (n, width), in the dtype of the file; `OSError` where that fails."""
        self._mapped = None
        self.file.write(states.detach().to("cpu", self.dtype).contiguous().numpy().data)
        self.file.flush()  # so that a full disk shows here, not at some later read
        self._count += len(states)

    def read(self, rows: npt.NDArray[np.int64] | slice) -> torch.Tensor:
        """Return the states of some indices, on the CPU; those of a float16 file as float32."""
        if self._mapped is None:
            shape = (self._count, self.width)
            self._mapped = np.memmap(self.file, self._numpy_dtype, "r", shape=shape)
        return torch.from_numpy(
            np.array(self._mapped[rows], dtype=np.promote_types(self._numpy_dtype, np.float32))
        )

    def close(self) -> None:
        """Give the disk space back; the file cannot be used afterwards."""
        self._mapped = None
        # Closing flushes once more, which fails again where the disk was full.
        with suppress(OSError):
            self.file.close()
