"""Made-up sender and receiver states with a known relation."""

from __future__ import annotations

import torch

from statebridge.experiment.translator_settings import KINDS, MESSAGE_KINDS

OF_STATES = tuple(name for name in KINDS.names() if name not in MESSAGE_KINDS)
"""Kinds that map states of one layer; those of keys and values are solved for by themselves."""


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def linear_pair(
    positions: int, width_in: int = 6, width_out: int = 5, *, noise: float = 0.1, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """States whose receiver side is an affine map of the sender's, plus noise."""
    sender = normal(positions, width_in, seed=seed) + torch.linspace(-1, 1, width_in)
    weight = normal(width_in, width_out, seed=1000)
    bias = normal(width_out, seed=1001)
    receiver = sender @ weight + bias + noise * normal(positions, width_out, seed=seed + 1)
    return sender, receiver
