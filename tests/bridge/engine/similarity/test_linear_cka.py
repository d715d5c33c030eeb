"""Linear CKA against the kernel form on whole matrices, and what must leave it as it is."""

from __future__ import annotations

import pytest
import torch

from statebridge.engine.similarity.measures import LinearCka
from statebridge.errors import NumericError

CLOSE = 1e-10
"""Float64 sums over 90 positions; a product of matrices loses a few of its 16 digits."""


def states(width: int, seed: int, positions: int = 90, mean: float = 0.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn((positions, width), generator=generator, dtype=torch.float64)
    return drawn * torch.arange(1, width + 1) + mean


def streamed(xs: list[torch.Tensor], ys: list[torch.Tensor], size: int = 90) -> torch.Tensor:
    cka = LinearCka([x.shape[1] for x in xs], [y.shape[1] for y in ys])
    for start in range(0, len(xs[0]), size):
        part = slice(start, start + size)
        cka.add([x[part] for x in xs], [y[part] for y in ys])
    assert cka.positions == len(xs[0])
    return cka.values()


def direct(x: torch.Tensor, y: torch.Tensor) -> float:
    """HSIC of the centred Gram matrices (Kornblith et al. 2019, eq. 3)."""
    n = len(x)
    centring = torch.eye(n, dtype=torch.float64) - 1 / n
    k, other = x @ x.T, y @ y.T

    def hsic(a: torch.Tensor, b: torch.Tensor) -> float:
        return float(torch.trace(a @ centring @ b @ centring))

    return hsic(k, other) / (hsic(k, k) * hsic(other, other)) ** 0.5


XS = [states(4, 1), states(7, 2, mean=50.0)]
YS = [states(5, 3), XS[0] @ states(6, 4)[:4], XS[1] + 3]


def test_every_pair_is_the_direct_formula() -> None:
    found = streamed(XS, YS)
    assert found.shape == (2, 3)
    for i, x in enumerate(XS):
        for j, y in enumerate(YS):
            assert float(found[i, j]) == pytest.approx(direct(x, y), rel=CLOSE)


@pytest.mark.parametrize("size", [1, 7, 64])
def test_the_cut_of_the_stream_does_not_matter(size: int) -> None:
    torch.testing.assert_close(streamed(XS, YS, size), streamed(XS, YS), rtol=CLOSE, atol=0)


def test_rotation_scale_and_shift_leave_it_as_it_is() -> None:
    x, y = XS[1], YS[0]
    rotation = torch.linalg.qr(states(7, 9)[:7]).Q
    plain = streamed([x], [y])
    for moved in (x @ rotation, 0.003 * x, x + 17, -4 * x @ rotation - 2):
        torch.testing.assert_close(streamed([moved], [y]), plain, rtol=CLOSE, atol=0)
        one = torch.ones_like(plain)
        torch.testing.assert_close(streamed([moved], [x]), one, rtol=CLOSE, atol=0)
    stretched = x * torch.tensor([9.0, 1, 1, 1, 1, 1, 1], dtype=torch.float64)
    assert float(streamed([stretched], [x])) < 0.9


def test_a_mean_that_dwarfs_the_spread_costs_no_digits() -> None:
    far = [x + 1e6 for x in XS]
    # 1e6 takes six of the sixteen digits of each state.
    torch.testing.assert_close(streamed(far, YS, 11), streamed(XS, YS), rtol=1e-7, atol=0)


def test_states_that_do_not_vary_are_refused() -> None:
    with pytest.raises(NumericError, match="layer 1 of the first list do not vary over 90"):
        streamed([XS[0], torch.ones((90, 3))], YS)


def test_the_bytes_are_those_of_the_sums() -> None:
    cka = LinearCka([4, 7], [5])
    sums = [*cka._xx, *cka._yy, cka._xy]
    assert LinearCka.bytes_needed([4, 7], [5]) == sum(s.numel() * s.itemsize for s in sums)
