"""Fusers of a sender's keys and values into the receiver's own, position by position.

Source: C2C (arXiv 2510.03215). In each block of the receiver, of keys and of values apart, the
receiver's entries t and the sender's s of the same token, all heads flattened, give

    t + g · sigmoid(w) · P    with    y = B(A [s; t] + a),  P = C B'(y) + c,  w = D B''(y) + d

where each B is a residual block, y + V GELU(U RMSNorm(y)), w has one number for each head, and the
gate g is 1 where its logit is above 0, else 0.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from statebridge.errors import TranslatorError
from statebridge.experiment.translator_settings import FuserSettings
from statebridge.translators.modules.maps import linear

Gates = Literal["learned", "open", "shut"]

EPSILON = 1e-6
"""Added to the mean square, so that no length is 0."""

START_LOGIT = 1.0
"""Logit of a gate before training: open."""


class ResidualBlock(nn.Module):
    """y + V GELU(U RMSNorm(y))."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.norm = nn.Parameter(torch.ones(width))
        self.up = linear(width, inner, bias=False)
        self.down = linear(inner, width, bias=False)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Change states (..., width)."""
        normed = nn.functional.rms_norm(states, self.norm.shape, self.norm, EPSILON)
        changed: torch.Tensor = states + self.down(nn.functional.gelu(self.up(normed)))
        return changed


class _Gate(torch.autograd.Function):
    """1 where a logit is above 0, else 0; its gradient is that of the sigmoid.

    Source: the straight-through estimator (Bengio et al. 2013, arXiv 1308.3432).
    """

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, logit: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(logit)
        return (logit > 0).to(logit.dtype)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: torch.Tensor) -> torch.Tensor:
        (logit,) = ctx.saved_tensors  # type: ignore[attr-defined]
        opened = logit.sigmoid()
        slope: torch.Tensor = gradient * opened * (1 - opened)
        return slope


class EntryFuser(nn.Module):
    """Fuses the keys, or the values, of one block."""

    def __init__(self, width_in: int, width_out: int, heads: int, hidden: int, inner: int) -> None:
        super().__init__()
        self.heads = heads
        self.enter = linear(width_in + width_out, hidden)
        self.shared = ResidualBlock(hidden, inner)
        self.project = ResidualBlock(hidden, inner)
        self.out = linear(hidden, width_out)
        self.weigh = ResidualBlock(hidden, hidden)
        self.head = linear(hidden, heads)
        self.gate = nn.Parameter(torch.zeros(()))

    def forward(self, sent: torch.Tensor, own: torch.Tensor, gates: Gates) -> torch.Tensor:
        """Return own entries (..., width_out), changed by the sender's (..., width_in)."""
        if gates == "shut":
            return own
        shared = self.shared(self.enter(torch.cat((sent, own), dim=-1)))
        projected = self.out(self.project(shared)).unflatten(-1, (self.heads, -1))
        weight = self.head(self.weigh(shared)).sigmoid()[..., None]
        change: torch.Tensor = (weight * projected).flatten(-2)
        if gates == "open":
            return own + change
        gate: torch.Tensor = _Gate.apply(self.gate)  # type: ignore[no-untyped-call]
        return own + gate * change


class CacheFuser(nn.Module):
    """Fusers of all of the receiver's blocks, of keys and of values.

    Args:
        width_in: Width of a sender's block's keys, all heads together.
        width_out: The same of the receiver.
        blocks: Blocks of the receiver.
        heads: Its key-value heads.
    """

    def __init__(
        self, width_in: int, width_out: int, *, blocks: int, heads: int, hidden: int, inner: int
    ) -> None:
        super().__init__()
        if width_out % heads:
            raise TranslatorError(
                f"kind fuser: width_out {width_out} is not divisible by {heads} heads"
            )
        self.blocks = nn.ModuleList(
            nn.ModuleList(
                EntryFuser(width_in, width_out, heads, hidden, inner) for _ in ("keys", "values")
            )
            for _ in range(blocks)
        )

    def forward(
        self, block: int, kind: int, sent: torch.Tensor, own: torch.Tensor, gates: Gates
    ) -> torch.Tensor:
        """Return a block's entries (..., width_out), fused.

        Args:
            kind: 0 for keys, 1 for values.
            sent: (..., width_in) of the same tokens.
        """
        fused: torch.Tensor = self.blocks[block][kind](sent, own, gates)  # type: ignore[index]
        return fused

    def begin(self) -> None:
        """Open all gates and let nothing pass: drawn weights then begin as the receiver alone."""
        with torch.no_grad():
            for part in self.modules():
                if isinstance(part, EntryFuser):
                    part.gate.fill_(START_LOGIT)
                    part.out.weight.zero_()
                    part.out.bias.zero_()

    def open_blocks(self, gates: Gates) -> tuple[int, ...]:
        """Return the blocks in which keys or values are changed."""
        if gates != "learned":
            return tuple(range(len(self.blocks))) if gates == "open" else ()
        return tuple(
            index
            for index, block in enumerate(self.blocks)
            if any(
                isinstance(part, EntryFuser) and part.gate.item() > 0 for part in block.children()
            )
        )


def fuser_options(settings: FuserSettings, blocks: int, heads: int) -> dict[str, int]:
    """Return the options of a fuser for a receiver of so many blocks and key-value heads."""
    return {
        "hidden_dim": settings.hidden_dim,
        "inner_dim": settings.inner_dim or settings.hidden_dim,
        "blocks_out": blocks,
        "groups": heads,
    }
