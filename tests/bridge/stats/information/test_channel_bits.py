"""Bits of channels whose bits are known: value, interval, and where the estimate errs."""

from __future__ import annotations

from math import log2

import numpy as np
import pytest

from statebridge.errors import ResultError
from statebridge.stats.information.channel_bits import bits_at_least, estimated_bits

K = 16


def _symmetric(right: float, unnamed: float = 0.0, symbols: int = K) -> np.ndarray:
    """Chances (K, K + 1) of a channel whose wrong answers are spread evenly."""
    wrong = (1.0 - unnamed - right) / (symbols - 1)
    chances = np.full((symbols, symbols + 1), wrong)
    np.fill_diagonal(chances, right)
    chances[:, -1] = unnamed
    return chances


def _useless(symbols: int = K) -> np.ndarray:
    """One answer is likelier than another, whatever was sent."""
    weights = 1.0 / np.arange(1, symbols + 2)
    return np.tile(weights / weights.sum(), (symbols, 1))


def _bits(chances: np.ndarray) -> float:
    def entropy(p: np.ndarray) -> np.ndarray:
        return -(p * np.log2(np.where(p > 0, p, 1))).sum(-1)

    return float(entropy(chances.mean(0)) - entropy(chances).mean())


def least(counts: np.ndarray) -> tuple[float, float, float]:
    """The bound and its interval for rows of these counts, each run once."""
    rows, named, right = (round(x) for x in (counts.sum(), counts[:, :-1].sum(), np.trace(counts)))
    places = np.arange(rows)
    return bits_at_least(places < right, places < named, len(counts))


KNOWN = {
    "noiseless": _symmetric(1.0),
    "symmetric": _symmetric(0.6),
    "erasure": _symmetric(0.5, unnamed=0.5),
    "both": _symmetric(0.4, unnamed=0.3),
    "useless": _useless(),
}


@pytest.mark.parametrize("name", KNOWN)
def test_the_bits_of_a_known_channel_come_out(name: str) -> None:
    chances, rows = KNOWN[name], 2e4
    value, low, high = least(chances * rows)
    assert value == pytest.approx(_bits(chances), abs=1e-9)
    assert low <= value <= high
    # 320,000 rows: the interval has all but closed.
    assert high - low < 0.02
    assert estimated_bits(chances * rows) == pytest.approx(_bits(chances), abs=5e-3)


def test_textbook_values() -> None:
    assert least(_symmetric(1.0) * 10)[0] == pytest.approx(4.0)
    assert least(_symmetric(0.5, unnamed=0.5) * 10)[0] == pytest.approx(2.0)
    # Binary symmetric with 11 % errors: 1 - h(0.11), about half a bit.
    assert least(_symmetric(0.89, symbols=2) * 100)[0] == pytest.approx(0.5, abs=1e-3)
    # Below chance is no information in the right direction.
    assert least(_symmetric(0.01) * 100)[0] == 0.0


@pytest.mark.parametrize("rows", [2, 8])
def test_few_rows_of_a_useless_channel_are_no_bits(rows: int) -> None:
    draws = np.random.default_rng(3)
    found = [
        (estimated_bits(counts), least(counts)[0], _bits(counts / rows))
        for counts in (
            np.stack([draws.multinomial(rows, p) for p in _useless(64)]) for _ in range(20)
        )
    ]
    shrunken, bound, plug_in = np.mean(found, axis=0)
    assert shrunken < 0.05
    assert bound < 0.02
    assert plug_in > 1.5  # what the frequencies alone would claim


def test_confusions_with_a_pattern_are_more_than_the_bound() -> None:
    pairs = np.zeros((K, K + 1))
    for symbol in range(K):
        pairs[symbol, [symbol, symbol ^ 1]] = 0.5  # each is taken for its partner half the time
    counts = pairs * 64
    value, _, high = least(counts)
    assert high < estimated_bits(counts)
    assert value < estimated_bits(counts) <= _bits(pairs) == 3.0


@pytest.mark.slow
def test_the_interval_covers_and_its_low_end_is_a_bound() -> None:
    draws = np.random.default_rng(11)
    for chances in KNOWN.values():
        true, covered, bounded = _bits(chances), 0, 0
        for _ in range(100):
            counts = np.stack([draws.multinomial(8, p) for p in chances])
            _, low, high = least(counts)
            covered += low - 1e-9 <= true <= high + 1e-9
            bounded += low <= true + 1e-9
        # 95 % of 100 within three standard errors; the low end alone errs less often.
        assert covered >= 100 * (0.95 - 3 * 0.022)
        assert bounded >= 100 * (0.975 - 3 * 0.016)


@pytest.mark.soak
@pytest.mark.parametrize(
    ("symbols", "rows"), [(2, 64), (2, 200), (8, 16), (8, 32), (32, 4), (32, 8), (128, 2)]
)
@pytest.mark.parametrize("name", KNOWN)
def test_the_interval_covers_for_many_numbers(name: str, symbols: int, rows: int) -> None:
    """The figures of docs/capacity.md: 100 rows or more in all."""
    made = {
        "noiseless": _symmetric(1.0, symbols=symbols),
        "symmetric": _symmetric(0.6, symbols=symbols),
        "erasure": _symmetric(0.5, unnamed=0.5, symbols=symbols),
        "both": _symmetric(0.4, unnamed=0.3, symbols=symbols),
        "useless": _useless(symbols),
    }
    chances, samples = made[name], 400
    true, covered, bounded = _bits(chances), 0, 0
    draws = np.random.default_rng(7)
    for _ in range(samples):
        counts = np.stack([draws.multinomial(rows, p) for p in chances])
        _, low, high = least(counts)
        covered += low - 1e-9 <= true <= high + 1e-9
        bounded += low <= true + 1e-9
    # Three standard errors below 95 and 97.5 %.
    assert covered / samples >= 0.95 - 3 * 0.011
    assert bounded / samples >= 0.975 - 3 * 0.008


def test_seeds_that_agree_are_worth_one_and_others_more() -> None:
    draw = np.random.default_rng(5)
    seeds = (draw.random((200, 3)) < 0.7).astype(float)
    alone = bits_at_least(seeds[:, 0], np.ones(200), 16)
    agreeing = bits_at_least(np.repeat(seeds[:, :1], 3, axis=1).mean(axis=1), np.ones(200), 16)
    assert agreeing == pytest.approx(alone, abs=1e-9)
    _, low, high = bits_at_least(seeds.mean(axis=1), np.ones(200), 16)
    assert high - low < 0.7 * (alone[2] - alone[1])


@pytest.mark.parametrize(
    ("right", "named", "symbols", "message"),
    [
        ([], [], 4, "a share for each row"),
        ([1.0], [1.0], 1, "2 symbols"),
        ([1.0], [0.5], 4, "0 <= right <= named <= 1"),
        ([0.5], [1.5], 4, "0 <= right <= named <= 1"),
        ([float("nan")], [1.0], 4, "0 <= right <= named <= 1"),
    ],
)
def test_shares_that_are_none_are_refused(
    right: list[float], named: list[float], symbols: int, message: str
) -> None:
    with pytest.raises(ResultError, match=message):
        bits_at_least(right, named, symbols)


def test_a_channel_that_names_nothing_carries_nothing() -> None:
    value, low, high = bits_at_least(np.zeros(100), np.zeros(100), 8)
    assert value == low == 0.0
    assert 0.05 < high < 0.15  # 3.6 % of the uses may name a symbol, of 3 bits


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        (np.ones((3, 3)), r"shape \(3, 3\)"),
        (np.ones((1, 2)), r"shape \(1, 2\)"),
        (-np.ones((2, 3)), "negative"),
        (np.full((2, 3), np.nan), "not finite"),
        (np.array([[1, 0, 0], [0, 0, 0]]), "never sent"),
    ],
)
def test_counts_that_are_none_are_refused(counts: np.ndarray, message: str) -> None:
    with pytest.raises(ResultError, match=message):
        estimated_bits(counts)


def test_bits_never_exceed_what_is_sent() -> None:
    draws = np.random.default_rng(0)
    for _ in range(30):
        counts = draws.integers(0, 4, (5, 6)) + np.eye(5, 6, dtype=int)
        assert 0 <= least(counts)[2] <= log2(5) + 1e-9
        assert 0 <= estimated_bits(counts) <= log2(5) + 1e-9
