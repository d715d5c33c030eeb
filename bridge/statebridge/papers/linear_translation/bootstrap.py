"""The published pooled percentile bootstrap of arXiv 2606.03280, bit for bit.

The published script draws each resample with Python's `random.Random(seed).randrange(n)`,
one call per draw. Here the same Mersenne Twister stream is drawn in bulk: numpy's MT19937
takes over the state that Python made of the seed, and `randrange(n)` is what CPython does,
the top `n.bit_length()` bits of the next 32-bit word, drawn again while they are not below n.
"""

from __future__ import annotations

import hashlib
import random

import numpy as np
import numpy.typing as npt

PUBLISHED_RESAMPLES = 5000
_LOW, _HIGH = 0.025, 0.975
_WORD_BITS = 32
_BLOCK = 1 << 17
"""Words drawn at a time: small enough to stay in a core's cache."""


def stable_seed(*parts: object) -> int:
    """Return the published seed of a comparison: 8 hex digits of the SHA-256 of `a|b|c`."""
    text = "|".join(str(part) for part in parts)
    return int(hashlib.sha256(text.encode("utf-8")).hexdigest()[:8], 16)


def mersenne_twister(seed: int) -> np.random.Generator:
    """Return a numpy generator that continues where `random.Random(seed)` starts."""
    _, state, _ = random.Random(seed).getstate()  # noqa: S311 - statistics, not secrets
    bits = np.random.MT19937()
    bits.state = {
        "bit_generator": "MT19937",
        "state": {"key": np.array(state[:-1], dtype=np.uint32), "pos": state[-1]},
    }
    return np.random.Generator(bits)


def resampled(values: npt.NDArray[np.generic], draws: int, seed: int) -> npt.NDArray[np.generic]:
    """Return `values[randrange(n)]` for `draws` calls of `random.Random(seed).randrange`.

    `values` has shape (n,) with 1 <= n < 2**32; the result has shape (draws,).
    """
    n = len(values)
    shift = np.uint32(_WORD_BITS - n.bit_length())
    bound = np.uint32(n)
    generator = mersenne_twister(seed)
    out = np.empty(draws, dtype=values.dtype)
    filled = 0
    while filled < draws:
        words = generator.integers(0, 1 << _WORD_BITS, _BLOCK, dtype=np.uint32)
        words >>= shift
        accepted = np.compress(words < bound, words)[: draws - filled]
        out[filled : filled + len(accepted)] = values.take(accepted)
        filled += len(accepted)
    return out


def resampled_means(
    deltas: npt.NDArray[np.float64], resamples: int, seed: int
) -> npt.NDArray[np.float64]:
    """Return the mean of each resample, shape (resamples,), in the order drawn.

    Whole-number deltas (every 0/1 metric) are summed as integers, so each mean is the same
    float as Python's `sum(...) / n`. Other deltas differ from a Python loop by rounding only.
    """
    n = len(deltas)
    whole = np.rint(deltas)
    if not np.array_equal(whole, deltas):
        drawn = resampled(deltas, resamples * n, seed).reshape(resamples, n)
        return np.asarray(drawn.mean(axis=1), dtype=np.float64)
    if (deltas == deltas[0]).all():  # every resample is the same; no need to draw it
        return np.full(resamples, deltas[0])
    # Deltas of one run are -1, 0 or +1: one byte each, and a sum that fits in two.
    narrow = np.abs(whole).max() <= 1 and n <= np.iinfo(np.int16).max
    table = whole.astype(np.int8 if narrow else np.int64)
    drawn = resampled(table, resamples * n, seed).reshape(resamples, n)
    sums = drawn.sum(axis=1, dtype=np.int16 if narrow else np.int64)
    return np.asarray(sums / np.float64(n), dtype=np.float64)


def published_interval(
    deltas: npt.NDArray[np.float64], seed: int, resamples: int = PUBLISHED_RESAMPLES
) -> tuple[float, float]:
    """Return the published 95 % percentile interval of the mean of `deltas`, shape (n,).

    The resampled means are sorted and read at places int(0.025 (B - 1)) and
    int(0.975 (B - 1)). Rows of several seeds are treated as independent, which makes the
    interval too narrow; see `statebridge.stats.inference.intervals` for the default.
    """
    if len(deltas) == 0 or resamples < 1:
        raise ValueError("a bootstrap needs at least one delta and one resample")
    means = np.sort(resampled_means(deltas, resamples, seed))
    return float(means[int(_LOW * (resamples - 1))]), float(means[int(_HIGH * (resamples - 1))])
