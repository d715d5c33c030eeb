"""L2 normalisation of states, per position."""

from __future__ import annotations

import torch

# A state of zeros (a zeroed source, a dead position) has no direction: dividing by this
# instead of by 0 gives zeros, not NaN. It is far below the norm of any real state, so it
# alters no other, and is the constant of torch.nn.functional.normalize.
SMALLEST_NORM = 1e-12


def l2_normalise(states: torch.Tensor) -> torch.Tensor:
    """Return `states` (..., width) with every position at L2 norm 1; zeros stay zeros.

    Half-precision states are normalised in float32 and returned so: their squares leave
    float16's range at a norm of 256, and `SMALLEST_NORM` rounds to 0 in it.
    """
    if states.dtype in (torch.float16, torch.bfloat16):
        states = states.float()
    norms = torch.linalg.vector_norm(states, dim=-1, keepdim=True)
    unit: torch.Tensor = states / norms.clamp_min(SMALLEST_NORM)
    return unit
