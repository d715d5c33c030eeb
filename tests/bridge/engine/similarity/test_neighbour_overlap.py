"""Mutual nearest neighbours against counting them one by one."""

from __future__ import annotations

import math

import pytest
import torch

from statebridge.engine.similarity.measures import neighbour_overlap


def states(width: int, seed: int, positions: int = 40) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn((positions, width), generator=generator, dtype=torch.float64)


def counted(x: torch.Tensor, y: torch.Tensor, k: int) -> float:
    """Sort every position's cosines in plain Python."""

    def near(rows: list[list[float]], i: int) -> set[int]:
        def cosine(j: int) -> float:
            dot = sum(a * b for a, b in zip(rows[i], rows[j], strict=True))
            return dot / (math.hypot(*rows[i]) * math.hypot(*rows[j]))

        others = [j for j in range(len(rows)) if j != i]
        return set(sorted(others, key=cosine, reverse=True)[:k])

    a, b = x.tolist(), y.tolist()
    return sum(len(near(a, i) & near(b, i)) / k for i in range(len(a))) / len(a)


@pytest.mark.parametrize("k", [1, 5, 10])
def test_every_pair_is_what_counting_gives(k: int) -> None:
    xs = [states(3, 1), states(6, 2)]
    ys = [xs[0] + 0.3 * states(3, 3), states(4, 4), xs[1]]
    found = neighbour_overlap(xs, ys, k)
    assert found.shape == (2, 3)
    for i, x in enumerate(xs):
        for j, y in enumerate(ys):
            assert float(found[i, j]) == pytest.approx(counted(x, y, k), rel=1e-12)
    assert float(found[1, 2]) == 1.0


def test_directions_alone_count() -> None:
    x = states(6, 2)
    rotation = torch.linalg.qr(states(6, 7, 6)).Q
    lengths = torch.linspace(0.1, 9, len(x), dtype=torch.float64)[:, None]
    assert float(neighbour_overlap([x], [lengths * x @ rotation], 10)) == 1.0


def test_unrelated_states_overlap_by_chance() -> None:
    n, k = 400, 10
    both = states(64, 1, 2 * n)  # one stream: two streams of small seeds are a little alike
    found = float(neighbour_overlap([both[:n]], [both[n:]], k))
    # 4000 draws at a chance of 10/399: a standard deviation of 0.0025.
    assert found == pytest.approx(k / (n - 1), abs=0.0125)
