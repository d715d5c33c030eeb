"""Mutual nearest neighbours: do two layers find the same positions alike?"""

from __future__ import annotations

from collections.abc import Sequence

import torch


def neighbour_overlap(
    xs: Sequence[torch.Tensor], ys: Sequence[torch.Tensor], neighbours: int
) -> torch.Tensor:
    """Return the mutual k-nearest-neighbour overlap of each pair, (layers of x, layers of y).

    The mean over positions of the share of a position's k nearest others, by cosine, that
    are among its nearest in both: Huh et al. 2024 (arXiv 2405.07987). Chance gives
    k / (positions - 1).

    Args:
        xs, ys: States (positions, width) of the same positions, layer by layer.
        neighbours: k, below the number of positions.
    """
    near_x = [_nearest(states, neighbours) for states in xs]
    near_y = [_nearest(states, neighbours) for states in ys]
    shared = [[float((x & y).sum()) for y in near_y] for x in near_x]
    return torch.tensor(shared, dtype=torch.float64) / (len(xs[0]) * neighbours)


def _nearest(states: torch.Tensor, neighbours: int) -> torch.Tensor:
    """Return (positions, positions) bool: which are among the nearest of which."""
    directions = torch.nn.functional.normalize(states.double(), dim=1)
    cosines = directions @ directions.T
    cosines.fill_diagonal_(-torch.inf)
    found = cosines.topk(neighbours, dim=1).indices
    return torch.zeros_like(cosines, dtype=torch.bool).scatter_(1, found, True)
