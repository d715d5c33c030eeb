"""Keys and values of what precedes the first written token: computed once, kept on disk.

Nothing that is written reaches an earlier position, so the upper blocks' entries there are the
same in every step. With them a training step runs the receiver from the written token on.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch
from transformers import DynamicCache

from statebridge.models.messages.key_values import KeyValues
from statebridge.models.token_batch import TokenBatch
from statebridge.translators.state_file import StateFile, places

KEPT_BYTES = 8 * 2**30
"""Most disk space for the entries of all rows; where they need more, none are kept."""


class KeptPrefixes:
    """Entries of the blocks above the injection layer at the first positions of each row.

    Args:
        lengths: Positions to keep of each row.
        skipped: Number of blocks up to the injection layer, whose entries nobody reads.
        dtype: Of the file.
    """

    def __init__(self, lengths: Sequence[int], skipped: int, dtype: torch.dtype) -> None:
        self._lengths = tuple(lengths)
        self._start = tuple(accumulate(self._lengths, initial=0))
        self._skipped, self._dtype = skipped, dtype
        self._file: StateFile | None = None
        # Of each block's keys and values: heads and their width.
        self._shapes: list[tuple[int, int]] = []
        self._rows = 0

    @property
    def wanted(self) -> bool:
        """Whether any row has a position to keep."""
        return any(self._lengths)

    @property
    def bytes_per_position(self) -> int:
        """Space that a position takes on disk, as far as is known."""
        return 0 if self._file is None else self._file.bytes_per_state

    def close(self) -> None:
        """Give the disk space back."""
        if self._file is not None:
            self._file.close()

    def write(self, batch: TokenBatch, cache: DynamicCache) -> None:
        """Keep the next rows' entries, from a cache that a pass over whole rows has filled.

        Raises:
            OSError: No disk space.
        """
        layers = cache.layers[self._skipped :]
        entries = [part for layer in layers for part in (layer.keys, layer.values)]
        if self._file is None:
            self._shapes = [(part.shape[1], part.shape[3]) for part in entries]
            self._file = StateFile(sum(heads * width for heads, width in self._shapes), self._dtype)
            if self._start[-1] * self._file.bytes_per_state > KEPT_BYTES:
                self._lengths = (0,) * len(self._lengths)
        # (rows, positions, all blocks' entries)
        of_positions = torch.cat([part.transpose(1, 2).flatten(2) for part in entries], dim=2)
        for states, length in zip(of_positions, batch.lengths, strict=True):
            begin = len(states) - length
            self._file.write(states[begin : begin + self._lengths[self._rows]])
            self._rows += 1

    def read(
        self,
        rows: Sequence[int],
        batch: TokenBatch,
        dtype: torch.dtype,
        columns: int | None = None,
    ) -> KeyValues | None:
        """Return the entries at the columns of a left-padded batch before any written token.

        Those of the skipped blocks are empty but for their number of positions.

        Args:
            rows: Their indices.
            batch: The same rows, whole.
            dtype: Of the receiver's weights.
            columns: Number of columns, where it is less than these rows allow.

        Returns:
            None where a row begins with a written token, or nothing was kept.
        """
        padding = [batch.ids.shape[1] - length for length in batch.lengths]
        if columns is None:
            columns = min(
                before + self._lengths[row] for row, before in zip(rows, padding, strict=True)
            )
        if columns == 0 or self._file is None:
            return None
        lengths = tuple(max(0, columns - before) for before in padding)
        found = torch.zeros(len(rows), columns, self._file.width, dtype=dtype)
        real = torch.arange(columns) >= columns - torch.tensor(lengths)[:, None]
        starts = [self._start[row] for row in rows]
        found[real] = self._file.read(places(starts, lengths)).to(dtype)
        parts = torch.split(
            found.to(batch.ids.device), [heads * width for heads, width in self._shapes], dim=2
        )
        entries = [
            part.reshape(*part.shape[:2], *shape).transpose(1, 2)
            for part, shape in zip(parts, self._shapes, strict=True)
        ]
        # A model takes its positions from block 0, which is skipped.
        empty = found.new_zeros(len(rows), 1, columns, 1, device=batch.ids.device)
        skipped = ((empty, empty),) * self._skipped
        return KeyValues((*skipped, *zip(entries[::2], entries[1::2], strict=True)), lengths)
