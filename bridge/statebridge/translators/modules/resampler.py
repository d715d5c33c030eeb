"""A resampler: learned queries that attend to a sender's states and give vectors to read.

Each query q attends, in several heads, to the states of all positions of the sender's prompt; with
the attended a, the vector is C B(q + a) + c, where B is a residual block as in a fuser. It is
brought to the mean norm of the receiver's input vectors where it is used. Source of the idea: the
resampler of Flamingo (arXiv 2204.14198), here of one layer, trained through a frozen receiver.
"""

from __future__ import annotations

import torch
from torch import nn

from statebridge.errors import TranslatorError
from statebridge.translators.modules.fuser import ResidualBlock
from statebridge.translators.modules.maps import linear


class Resampler(nn.Module):
    """Takes (rows, positions, width_in) to (rows, vectors, width_out)."""

    def __init__(
        self, width_in: int, width_out: int, *, vectors: int, hidden: int, heads: int
    ) -> None:
        super().__init__()
        if hidden % heads:
            raise TranslatorError(
                f"kind resampler: hidden_dim {hidden} is not divisible by {heads} heads"
            )
        self.heads = heads
        # A linear layer's weights, so that they are drawn as all others are.
        self.queries = linear(vectors, hidden, bias=False)
        self.keys = linear(width_in, hidden)
        self.values = linear(width_in, hidden)
        self.block = ResidualBlock(hidden, hidden)
        self.out = linear(hidden, width_out)

    def forward(self, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return vectors, (rows, vectors, width_out).

        Args:
            states: (rows, positions, width_in), each of length 1.
            mask: (rows, positions) bool, the real positions.
        """
        states = states * states.shape[-1] ** 0.5
        queries = self.queries.weight.T.expand(len(states), -1, -1)
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in (queries, self.keys(states), self.values(states))
        )
        attended = nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask[:, None, None, :]
        )
        attended = attended.transpose(1, 2).flatten(2)
        vectors: torch.Tensor = self.out(self.block(queries + attended))
        return vectors
