"""Operators: how source states are combined with the receiver's own, and at which positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from statebridge.experiment.conditions import Condition
from statebridge.experiment.positions import Positions
from statebridge.models.token_batch import TokenBatch

TINY_NORM = 1e-12
"""A source state shorter than this has no direction; rescaling leaves it almost zero."""

ALIGNED_AT_THE_END: frozenset[Positions] = frozenset({"all", "question", "placeholder"})
"""Positions read where they are written, counted from the end of the two prompts."""


@dataclass(frozen=True, slots=True)
class Written:
    """States to write at the injection layer.

    Attributes:
        states: (rows, positions, width), the receiver's own state where nothing is written.
        source_norms: (rows,) mean L2 norm of the source over the positions read.
        own_norms: (rows,) mean L2 norm of the receiver's own state over the prompt.
        injected_norms: (rows,) mean L2 norm over the positions written of what was added
            (`add`) or of the state written (every other operator).
        cosines: (rows,) mean cosine of source and own state over the positions written.
    """

    states: torch.Tensor
    source_norms: torch.Tensor
    own_norms: torch.Tensor
    injected_norms: torch.Tensor
    cosines: torch.Tensor


def combine_states(
    condition: Condition,
    own: torch.Tensor,
    batch: TokenBatch,
    source: torch.Tensor,
    source_batch: TokenBatch,
    spans: Sequence[tuple[int, int]] | None = None,
) -> Written:
    """Combine the receiver's own states with a source as a condition declares.

    Args:
        condition: Operator, weight, norm matching, positions.
        own: (rows, positions, width) receiver states h of the left-padded `batch`.
        batch: The receiver's prompts.
        source: (rows, source positions, width) states s; narrower ones meet the last
            dimensions of the receiver's, the others stay as they are.
        source_batch: The prompts that the source states belong to.
        spans: For positions `question` or `placeholder`: the place of each row's, as (first,
            one after the last) counted back from the end of the prompt. They are read at the
            same distance from the end.

    Source: the conditions of arXiv 2606.03280 and the combinations of arXiv 2501.14082;
    `statebridge.experiment.conditions` states the algebra.
    """
    source, own_exact = source.to(_exact(own.dtype)), own.to(_exact(own.dtype))
    untouched = own_exact[..., : own.shape[-1] - source.shape[-1]]
    own_exact = own_exact[..., own.shape[-1] - source.shape[-1] :]
    read = position_mask(source_batch, condition.source_positions, spans)
    written = position_mask(batch, condition.positions, spans)
    aligned = _align(condition, source, source_batch, own_exact, batch)
    own_norm = own_exact.norm(dim=-1, keepdim=True)
    cosines = torch.nn.functional.cosine_similarity(aligned, own_exact, dim=-1)
    if condition.match_norm:
        aligned = aligned / aligned.norm(dim=-1, keepdim=True).clamp_min(TINY_NORM) * own_norm
    if condition.operator == "add":
        injected = condition.weight * aligned
        combined = own_exact + injected
    else:
        if condition.operator == "blend":
            # Replacement is exact: 0 · h would turn an infinite h into NaN.
            weight = condition.weight
            combined = aligned if weight == 1 else weight * aligned + (1 - weight) * own_exact
        elif condition.operator == "mean":
            combined = (aligned + own_exact) / 2
        else:
            combined = aligned + own_exact
        injected = combined
    states = torch.where(written[..., None], combined, own_exact)
    if untouched.shape[-1]:
        states = torch.cat((untouched, states), dim=-1)
    return Written(
        states=states.to(own.dtype),
        source_norms=_masked_mean(source.norm(dim=-1), read),
        own_norms=_masked_mean(own.to(_exact(own.dtype)).norm(dim=-1), batch.mask),
        injected_norms=_masked_mean(injected.norm(dim=-1), written),
        cosines=_masked_mean(cosines, written),
    )


def position_mask(
    batch: TokenBatch, positions: Positions, spans: Sequence[tuple[int, int]] | None = None
) -> torch.Tensor:
    """Return (rows, positions) bool: which positions of a left-padded batch are meant."""
    if positions == "all":
        return batch.mask
    if positions in ("question", "placeholder"):
        if spans is None:
            raise ValueError(f"{positions} positions need the spans of the rows")
        return _span_mask(batch, spans)
    index = _position_index(batch, positions)
    return torch.zeros_like(batch.mask).scatter_(1, index, True)


def _span_mask(batch: TokenBatch, spans: Sequence[tuple[int, int]]) -> torch.Tensor:
    width = batch.ids.shape[1]
    place = torch.arange(width, device=batch.ids.device)
    bounds = torch.tensor(list(spans), device=batch.ids.device) + width
    return (place >= bounds[:, :1]) & (place < bounds[:, 1:])


def _position_index(batch: TokenBatch, positions: Positions) -> torch.Tensor:
    """Return (rows, positions named) int64: their places in the padded batch."""
    named = (-1,) if isinstance(positions, str) else positions
    width = batch.ids.shape[1]
    return torch.tensor(
        [[width - n + position % n for position in named] for n in batch.lengths],
        device=batch.ids.device,
    )


def _align(
    condition: Condition,
    source: torch.Tensor,
    source_batch: TokenBatch,
    own: torch.Tensor,
    batch: TokenBatch,
) -> torch.Tensor:
    """Return the source laid out at the positions written, (rows, positions, width).

    The first position read goes to the first position written, as they are listed.
    """
    if condition.source_positions in ALIGNED_AT_THE_END:
        return source
    rows = torch.arange(source.shape[0], device=source.device)[:, None]
    taken = source[rows, _position_index(source_batch, condition.source_positions)]
    if taken.shape[1] == 1 or condition.positions in ALIGNED_AT_THE_END:
        return taken.expand(-1, own.shape[1], -1)
    aligned = torch.zeros_like(own)
    aligned[rows, _position_index(batch, condition.positions)] = taken
    return aligned


def _masked_mean(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return torch.where(mask, values, 0).sum(dim=1) / mask.sum(dim=1)


def _exact(dtype: torch.dtype) -> torch.dtype:
    # The combination itself is computed in float32 at least, whatever the model's dtype.
    return dtype if dtype == torch.float64 else torch.float32
