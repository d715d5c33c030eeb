"""Measures of likeness between layers: linear CKA, and overlap of nearest neighbours."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from statebridge.errors import NumericError


class LinearCka:
    """Sums that linear CKA follows from, for each of some layers against each of others.

    With X and Y the centred states (positions, width) of two layers it is
    ‖X'Y‖² / (‖X'X‖ ‖Y'Y‖), Frobenius norms: Kornblith et al. 2019 (arXiv 1905.00414), the
    plain estimate, which rises towards 1 as positions become fewer than widths. 1 means equal
    up to rotation and scale. Products are centred as they are gathered (Chan, Golub and
    LeVeque 1983), in float64.

    Args:
        x_widths, y_widths: Width of each layer on either side.
    """

    def __init__(
        self,
        x_widths: Sequence[int],
        y_widths: Sequence[int],
        device: torch.device | str = "cpu",
    ) -> None:
        self.positions = 0
        self._x, self._y = list(x_widths), list(y_widths)
        self._mean_x, self._mean_y = (
            _zeros((sum(self._x),), device),
            _zeros((sum(self._y),), device),
        )
        self._xx = [_zeros((n, n), device) for n in self._x]
        self._yy = [_zeros((n, n), device) for n in self._y]
        self._xy = _zeros((sum(self._x), sum(self._y)), device)

    @staticmethod
    def bytes_needed(x_widths: Sequence[int], y_widths: Sequence[int]) -> int:
        """Return the bytes that the sums take."""
        own = sum(n * n for n in (*x_widths, *y_widths))
        return 8 * (own + sum(x_widths) * sum(y_widths))

    def add(self, xs: Sequence[torch.Tensor], ys: Sequence[torch.Tensor]) -> None:
        """Take in the states (n, width) of the same n positions, layer by layer."""
        x, block_x = _centred(xs, self._mean_x)
        y, block_y = _centred(ys, self._mean_y)
        if not len(x):
            return
        shift_x, shift_y = block_x - self._mean_x, block_y - self._mean_y
        total = self.positions + len(x)
        weight = self.positions * len(x) / total
        self._xy.addmm_(x.T, y).addr_(shift_x, shift_y, alpha=weight)
        for sums, states, shifts, widths in (
            (self._xx, x, shift_x, self._x),
            (self._yy, y, shift_y, self._y),
        ):
            parts = zip(
                sums, torch.split(states, widths, dim=1), torch.split(shifts, widths), strict=True
            )
            for products, own, shift in parts:
                products.addmm_(own.T, own).addr_(shift, shift, alpha=weight)
        self._mean_x += shift_x * (len(x) / total)
        self._mean_y += shift_y * (len(x) / total)
        self.positions = total

    def values(self) -> torch.Tensor:
        """Return the CKA of each pair, (layers of x, layers of y).

        Raises:
            NumericError: Some layer's states do not vary over the positions.
        """
        own_x = torch.stack([products.norm() for products in self._xx])
        own_y = torch.stack([products.norm() for products in self._yy])
        for side, norms in (("first", own_x), ("second", own_y)):
            if bool((norms == 0).any()):
                raise NumericError(
                    f"CKA: the states of layer {int((norms == 0).nonzero()[0])} of the {side} "
                    f"list do not vary over {self.positions} positions; give more text"
                )
        blocks = [
            torch.stack([part.norm() for part in torch.split(rows, self._y, dim=1)])
            for rows in torch.split(self._xy, self._x)
        ]
        return torch.stack(blocks) ** 2 / (own_x[:, None] * own_y)


def _zeros(shape: tuple[int, ...], device: torch.device | str) -> torch.Tensor:
    return torch.zeros(shape, dtype=torch.float64, device=device)


def _centred(
    states: Sequence[torch.Tensor], like: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the layers side by side without their mean, and the mean."""
    joined = torch.cat([layer.to(like.device, torch.float64) for layer in states], dim=1)
    if not len(joined):
        return joined, like
    mean = joined.mean(dim=0)
    return joined - mean, mean


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
