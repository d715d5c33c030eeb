from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from statebridge.papers.linear_translation.bootstrap import (
    mersenne_twister,
    published_interval,
    resampled,
    resampled_means,
    stable_seed,
)


def python_means(deltas: list[int], resamples: int, seed: int) -> list[float]:
    """The published loop, written out in plain Python."""
    rng = random.Random(seed)
    n = len(deltas)
    return [sum(deltas[rng.randrange(n)] for _ in range(n)) / n for _ in range(resamples)]


def python_interval(deltas: list[int], resamples: int, seed: int) -> tuple[float, float]:
    means = sorted(python_means(deltas, resamples, seed))
    return means[int(0.025 * (resamples - 1))], means[int(0.975 * (resamples - 1))]


@pytest.mark.parametrize("seed", [0, 1, 42, 2**31, 2**32 - 1, 2**40 + 7])
def test_words_are_those_of_python(seed: int) -> None:
    rng = random.Random(seed)
    words = mersenne_twister(seed).integers(0, 1 << 32, 2000, dtype=np.uint32)
    assert words.tolist() == [rng.getrandbits(32) for _ in range(2000)]


# Powers of two and their neighbours: there the share of rejected draws jumps.
@pytest.mark.parametrize(
    "n", [1, 2, 3, 4, 7, 8, 9, 255, 256, 257, 383, 396, 511, 512, 1149, 1188, 65535, 65537]
)
@pytest.mark.parametrize("seed", [5, stable_seed("pooled", "additive", "no_inject", "x")])
def test_draws_are_those_of_randrange(n: int, seed: int) -> None:
    rng = random.Random(seed)
    drawn = resampled(np.arange(n), 3000, seed)
    assert drawn.tolist() == [rng.randrange(n) for _ in range(3000)]


def test_more_draws_than_one_block() -> None:
    rng = random.Random(3)
    drawn = resampled(np.arange(300), 400_000, 3)
    assert drawn.tolist() == [rng.randrange(300) for _ in range(400_000)]


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.sampled_from([-1, 0, 0, 1]), min_size=1, max_size=60),
    st.integers(0, 2**32 - 1),
    st.integers(1, 60),
)
def test_interval_of_whole_numbers_is_bit_for_bit(
    deltas: list[int], seed: int, resamples: int
) -> None:
    array = np.array(deltas, dtype=float)
    assert resampled_means(array, resamples, seed).tolist() == python_means(deltas, resamples, seed)
    assert published_interval(array, seed, resamples) == python_interval(deltas, resamples, seed)


def test_large_whole_numbers_do_not_overflow() -> None:
    deltas = [100_000, -70_000, 3] * 20
    array = np.array(deltas, dtype=float)
    assert published_interval(array, 9, 200) == python_interval(deltas, 200, 9)


def test_many_rows_do_not_overflow_a_narrow_sum() -> None:
    deltas = [1] * 40_000 + [0]
    means = resampled_means(np.array(deltas, dtype=float), 3, 1)
    assert means.tolist() == python_means(deltas, 3, 1)


def test_other_numbers_agree_up_to_rounding() -> None:
    deltas = np.random.default_rng(0).normal(size=150)
    rng = random.Random(7)
    expected = [sum(deltas[rng.randrange(150)] for _ in range(150)) / 150 for _ in range(50)]
    # 150 additions of numbers near 1 round to within a few units of 1e-16 each.
    np.testing.assert_allclose(resampled_means(deltas, 50, 7), expected, rtol=0, atol=1e-14)


def test_published_seed() -> None:
    # SHA-256 of "pooled|additive|no_inject|word_boundary_contains" and, with no seed, of
    # "no_inject|None|nl_relay|legacy_contains", computed with coreutils' sha256sum.
    assert stable_seed("pooled", "additive", "no_inject", "word_boundary_contains") == 0x82704E18
    assert stable_seed("no_inject", None, "nl_relay", "legacy_contains") == 0x8401E2F0


def test_nothing_to_resample_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        published_interval(np.array([]), 1)
    with pytest.raises(ValueError, match="at least one"):
        published_interval(np.array([1.0]), 1, 0)
