"""Vectors that learned queries make of a sender's states, one row and one head at a time.

It shares no code with the library. The definition is that of the documentation.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def resampled(states: Tensor, weights: Mapping[str, Tensor], *, heads: int, norm: float) -> Tensor:
    """Return the vectors, (vectors, width of the receiver), of states (n, width), in float64.

    Args:
        weights: `queries`, `keys`, `values`, `block` (norm, up, down) and `out`.
        norm: Length of each vector.
    """
    w = {name: value.double() for name, value in weights.items()}
    read = states.double() / states.double().norm(dim=1, keepdim=True) * states.shape[1] ** 0.5
    queries = w["queries.weight"].T
    keys = read @ w["keys.weight"].T + w["keys.bias"]
    values = read @ w["values.weight"].T + w["values.bias"]
    width, made = queries.shape[1] // heads, []
    for head in range(heads):
        part = slice(head * width, (head + 1) * width)
        scores = queries[:, part] @ keys[:, part].T / width**0.5
        chances = torch.exp(scores) / torch.exp(scores).sum(dim=1, keepdim=True)
        made.append(chances @ values[:, part])
    y = queries + torch.cat(made, dim=1)
    normed = y / (y.square().mean(dim=1, keepdim=True) + 1e-6).sqrt() * w["block.norm"]
    inner = normed @ w["block.up.weight"].T
    y = y + (inner * 0.5 * (1 + torch.erf(inner / 2**0.5))) @ w["block.down.weight"].T
    vectors = y @ w["out.weight"].T + w["out.bias"]
    return (vectors / vectors.norm(dim=1, keepdim=True) * norm).float()
