"""Prompts of several rows as one left-padded batch of token ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch


def to_device(values: torch.Tensor, device: torch.device | str) -> torch.Tensor:
    """Copy a tensor of the host to a device; to a GPU without waiting for what it is doing.

    The copy comes from pinned memory, which torch does not use again before it is made.
    """
    if torch.device(device).type != "cuda":
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)


def to_host(values: torch.Tensor) -> torch.Tensor:
    """Copy a tensor to the host, from a GPU into pinned memory; waits until it is there."""
    if values.device.type != "cuda":
        return values.cpu()
    held = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    held.copy_(values, non_blocking=True)
    torch.cuda.current_stream(values.device).synchronize()
    return held


@dataclass(frozen=True, slots=True)
class TokenBatch:
    """Left-padded token ids.

    Attributes:
        ids: (rows, positions), int64; padding holds `pad_id`.
        mask: (rows, positions), bool; True at real tokens.
        lengths: Number of real tokens of each row.
    """

    ids: torch.Tensor
    mask: torch.Tensor
    lengths: tuple[int, ...]

    @classmethod
    def pack(
        cls,
        prompts: Sequence[Sequence[int]],
        pad_id: int,
        device: torch.device | str = "cpu",
        *,
        width: int = 0,
    ) -> TokenBatch:
        """Left-pad prompts (each at least one token) to the longest, or to a larger `width`."""
        lengths = tuple(len(prompt) for prompt in prompts)
        if not lengths or min(lengths) == 0:
            raise ValueError("a prompt needs at least one token")
        width = max(*lengths, width)
        padded = [[pad_id] * (width - len(prompt)) + list(prompt) for prompt in prompts]
        ids = torch.tensor(padded, dtype=torch.int64)
        mask = torch.arange(width) >= width - torch.tensor(lengths)[:, None]
        return cls(to_device(ids, device), to_device(mask, device), lengths)

    @property
    def padded(self) -> bool:
        """Whether any row is shorter than the batch is wide."""
        return min(self.lengths) != self.ids.shape[1]

    @property
    def position_ids(self) -> torch.Tensor:
        """(rows, positions): each row's own positions from 0; 0 at padding."""
        return (self.mask.long().cumsum(dim=1) - 1).clamp(min=0)

    def inputs(self) -> dict[str, torch.Tensor]:
        """Return what a model takes.

        Unpadded batches go without a mask: the attention kernels then take their causal
        form, the one that a single prompt takes too.
        """
        inputs = {"input_ids": self.ids, "position_ids": self.position_ids}
        if self.padded:
            inputs["attention_mask"] = self.mask.long()
        return inputs

    def select(self, rows: Sequence[int]) -> TokenBatch:
        """Return the batch of some rows (repeats allowed), as wide as this one."""
        index = to_device(torch.tensor(list(rows)), self.ids.device)
        return TokenBatch(
            self.ids[index], self.mask[index], tuple(self.lengths[row] for row in rows)
        )
