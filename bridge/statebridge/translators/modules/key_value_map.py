"""Maps from the sender's keys and values to the receiver's, position by position.

Source: arXiv 2608.03893. Keys are as they are before their rotation. Each block of the receiver
reads the keys (values) of several blocks of the sender, one after the other, through one affine map
of keys and one of values; either each head its own counterpart, or all heads all heads.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from statebridge.errors import TranslatorError
from statebridge.experiment.translator_settings import KeyValueSettings, RidgeSettings
from statebridge.translators.closed_form.centred_sums import CentredSums
from statebridge.translators.closed_form.ridge import solve_ridge

KEYS, VALUES = 0, 1


class KeyValueMap(nn.Module):
    """Maps (..., blocks · 2 · heads · head width), keys before values in each block.

    Attributes:
        chosen: (blocks_out, sources), the sender's blocks that each of the receiver's reads.
        weight: (blocks_out, 2, groups, sources · inputs, outputs).
        bias: (blocks_out, 2, groups, outputs).
        mean: The same shape: the receiver's mean keys and values over the fitting text.
    """

    def __init__(
        self,
        width_in: int,
        width_out: int,
        *,
        blocks_in: int,
        blocks_out: int,
        sources: int,
        groups: int,
    ) -> None:
        super().__init__()
        for width, blocks, side in ((width_in, blocks_in, "in"), (width_out, blocks_out, "out")):
            if width % (2 * blocks * groups):
                raise TranslatorError(
                    f"kind kv_ridge: width_{side} {width} is not keys and values of {blocks} "
                    f"blocks of {groups} groups of heads"
                )
        if sources > blocks_in:
            raise TranslatorError(
                f"kind kv_ridge: {sources} sources of {blocks_in} blocks; lower sources"
            )
        self.shape_in = blocks_in, 2, groups, width_in // (2 * blocks_in * groups)
        self.shape_out = blocks_out, 2, groups, width_out // (2 * blocks_out * groups)
        inputs, outputs = self.shape_in[3], self.shape_out[3]
        self.weight = nn.Parameter(torch.zeros(blocks_out, 2, groups, sources * inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(blocks_out, 2, groups, outputs))
        # Of a float dtype, as all weights in a file are.
        self.register_buffer("chosen", torch.zeros(blocks_out, sources))
        self.register_buffer("mean", torch.zeros(self.shape_out))
        self.chosen: torch.Tensor
        self.mean: torch.Tensor

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Map states of width_in to width_out."""
        if states.is_meta:  # a question about shapes; which blocks are read is not known there
            return states.new_empty(*states.shape[:-1], self.bias.numel())
        # (blocks, 2, groups, positions, inputs), laid out once: each block is read many times.
        parts = states.reshape(-1, *self.shape_in).permute(1, 2, 3, 0, 4).contiguous()
        made = torch.stack(
            [
                torch.cat([parts[block] for block in read], dim=-1) @ weight
                for read, weight in zip(self.chosen.int().tolist(), self.weight, strict=True)
            ]
        )
        mapped = made.permute(3, 0, 1, 2, 4) + self.bias
        return mapped.reshape(*states.shape[:-1], -1)


@dataclass(frozen=True, slots=True)
class KeyValueFit:
    """A map, and the number of positions that it was fitted on."""

    map: KeyValueMap
    positions: int


class KeyValueSums:
    """Sums over positions from which a map is solved for, in float64.

    Args:
        shape_in: Blocks, 2, groups of heads and width of a group, of the sender.
        shape_out: The same of the receiver.
    """

    def __init__(
        self,
        shape_in: tuple[int, int, int, int],
        shape_out: tuple[int, int, int, int],
        device: torch.device,
    ) -> None:
        self._shapes = shape_in, shape_out
        inputs, outputs = (shape[0] * shape[3] for shape in self._shapes)
        self._sums = [
            [CentredSums(inputs, outputs, device) for _ in range(shape_in[2])]
            for _ in (KEYS, VALUES)
        ]

    def add(self, sent: torch.Tensor, received: torch.Tensor) -> None:
        """Take in keys and values of the same tokens, (positions, width) each."""
        of_sender, of_receiver = (
            states.reshape(-1, *shape)
            for states, shape in zip((sent, received), self._shapes, strict=True)
        )
        for kind, of_kind in enumerate(self._sums):
            for group, sums in enumerate(of_kind):
                sums.add(
                    of_sender[:, :, kind, group].flatten(1),
                    of_receiver[:, :, kind, group].flatten(1),
                )

    def merge(self, other: KeyValueSums) -> None:
        """Take in the sums over other positions."""
        for own, others in zip(self._each(), other._each(), strict=True):
            own.merge(others)

    def to(self, device: torch.device | str) -> None:
        """Move the sums."""
        for each in self._each():
            each.to(torch.device(device))

    def _each(self) -> list[CentredSums]:
        return [sums for of_kind in self._sums for sums in of_kind]

    def solved(self, settings: KeyValueSettings) -> KeyValueFit:
        """Return the map of least squares with a penalty.

        Each block of the receiver reads the blocks of the sender that predict it best alone, keys
        and values counted alike.

        Raises:
            TranslatorError: The positions do not determine the map.
        """
        shape_in, shape_out = self._shapes
        sources = min(settings.sources, shape_in[0])
        widths = [shape[0] * 2 * shape[2] * shape[3] for shape in self._shapes]
        made = KeyValueMap(
            *widths,
            blocks_in=shape_in[0],
            blocks_out=shape_out[0],
            sources=sources,
            groups=shape_in[2],
        )
        explained = self._explained(settings) if sources < shape_in[0] else None
        with torch.no_grad():
            for block in range(shape_out[0]):
                ranked: Sequence[int] = range(shape_in[0])
                if explained is not None:
                    ranked = sorted(explained[block].topk(sources).indices.tolist())
                made.chosen[block] = torch.tensor(list(ranked), dtype=torch.float32)
                for kind, of_kind in enumerate(self._sums):
                    for group, sums in enumerate(of_kind):
                        part = _part(sums, ranked, block, shape_in[3], shape_out[3])
                        weight, _ = solve_ridge(part, _ridge(settings), normalize_target=False)
                        made.weight[block, kind, group] = weight.T.float().cpu()
                        bias = part.mean_y - weight @ part.mean_x
                        made.bias[block, kind, group] = bias.float().cpu()
                        made.mean[block, kind, group] = part.mean_y.float().cpu()
        return KeyValueFit(made, self._sums[0][0].count)

    def _explained(self, settings: KeyValueSettings) -> torch.Tensor:
        """Share of the variance that each block of the sender alone explains of each receiver's.

        (blocks out, blocks in), up to a factor for each row and kind that ranks nothing.
        """
        shape_in, shape_out = self._shapes
        found = torch.zeros(shape_out[0], shape_in[0], dtype=torch.float64)
        for of_kind in self._sums:
            of_this = torch.zeros_like(found)
            for sums in of_kind:
                for read in range(shape_in[0]):
                    for block in range(shape_out[0]):
                        part = _part(sums, [read], block, shape_in[3], shape_out[3])
                        weight, _ = solve_ridge(part, _ridge(settings), normalize_target=False)
                        own = 2 * (weight.T * part.xy).sum()
                        of_this[block, read] += float(own - (weight @ part.xx * weight).sum())
            # Keys and values count alike, whatever their lengths.
            found += of_this / of_this.abs().amax(dim=1, keepdim=True).clamp_min(1e-30)
        return found


def _ridge(settings: KeyValueSettings) -> RidgeSettings:
    return RidgeSettings(
        regularisation=settings.regularisation,
        max_condition_number=settings.max_condition_number,
        allow_underdetermined=settings.allow_underdetermined,
    )


def _part(
    sums: CentredSums, read: Iterable[int], block: int, inputs: int, outputs: int
) -> CentredSums:
    """Return the sums of some of the sender's blocks and of one of the receiver's."""
    device = sums.xx.device
    columns = torch.cat([torch.arange(b * inputs, (b + 1) * inputs) for b in read]).to(device)
    targets = slice(block * outputs, (block + 1) * outputs)
    part = CentredSums(len(columns), outputs, device)
    part.count = sums.count
    part.mean_x, part.mean_y = sums.mean_x[columns], sums.mean_y[targets]
    part.xx, part.xy = sums.xx[columns][:, columns], sums.xy[columns][:, targets]
    return part
