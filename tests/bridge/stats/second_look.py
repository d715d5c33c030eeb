"""Coverage and error rates once more, by simulations that share no code with `coverage.py`.

    python -m tests.bridge.stats.second_look [tries] [part ...]

prints tables of docs/statistics.md. Where all outcomes of a cell can be counted, they are, and a
coverage has no sampling error. `test_second_look.py` holds a few of the cells.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import cache

import numpy as np
import numpy.typing as npt
from scipy import special, stats

from statebridge.engine.sender_checks.probe import probe
from statebridge.results.layer_profile import ProbeScore
from statebridge.stats.inference.hypothesis_tests import (
    exact_mcnemar,
    exact_mcnemar_over_seeds,
    holm,
)
from statebridge.stats.inference.intervals import FEW_LEAVING, clustered_interval, over_seeds
from statebridge.stats.inference.means import BoundedMean, share_limits
from statebridge.stats.information.channel_bits import bits_at_least
from statebridge.stats.shares import share_of

Floats = npt.NDArray[np.float64]
RARE = 5.0
"""Expected rows below which a kind of row is rare, and intervals may be conservative."""
RATES = (0, 0.005, 0.01, 0.02, 0.03, 0.05, 0.08, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
RATES += (0.85, 0.9, 0.92, 0.95, 0.97, 0.98, 0.99, 0.995)


def counted(gained: int, lost: int, rows: int) -> Floats:
    return np.repeat([1.0, -1.0, 0.0], [gained, lost, rows - gained - lost])


class Outcomes:
    """The intervals of all outcomes (gained, lost) of some rows, and their chances."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.low = np.full((rows + 1, rows + 1), np.nan)
        self.high, self.warned = self.low.copy(), np.zeros(self.low.shape)
        for gained in range(rows + 1):
            for lost in range(min(gained, rows - gained) + 1):
                found = clustered_interval(counted(gained, lost, rows), bounded=True)
                assert found is not None
                self.low[gained, lost], self.high[gained, lost] = found.low, found.high
                self.low[lost, gained], self.high[lost, gained] = -found.high, -found.low
                leaving = rows - max(gained, lost, rows - gained - lost)
                warned = leaving < FEW_LEAVING or found.method == "proportion_exact"
                self.warned[gained, lost] = self.warned[lost, gained] = warned
        gained, lost = np.indices(self.low.shape)
        self._counts = gained, lost, np.maximum(rows - gained - lost, 0)
        self._ways = special.gammaln(rows + 1) - sum(special.gammaln(n + 1) for n in self._counts)

    def chances(self, gained: float, lost: float) -> Floats:
        rates = (gained, lost, max(1.0 - gained - lost, 0.0))
        log = self._ways + sum(
            special.xlogy(n, rate) for n, rate in zip(self._counts, rates, strict=True)
        )
        return np.where(np.isnan(self.low), 0.0, np.exp(log))

    def covered(self, gained: float, lost: float) -> float:
        truth = gained - lost
        inside = (self.low <= truth + 1e-12) & (self.high >= truth - 1e-12)
        return float(self.chances(gained, lost)[inside].sum())

    def stated(self, gained: float, lost: float) -> float:
        """Chance that a warning says that the interval may be too wide."""
        return float((self.chances(gained, lost) * self.warned).sum())


def cells(rows: int) -> Iterator[tuple[float, float, float]]:
    """Yield gained and lost rate, and the expected rows of the rarest kind."""
    for gained in RATES:
        for lost in RATES:
            rest = 1.0 - gained - lost
            if lost <= gained and rest > -1e-9:
                yield gained, lost, rows * max(min(lost, rest), 0.0)


def by_parts(gained: int, lost: int, rows: int) -> tuple[float, float]:
    """Limits from gained and lost rows alone, as all were until December 2026."""

    def limits(count: int) -> tuple[float, float]:
        low = _mid_p(count, rows) if count else 0.0
        return low, 1.0 - (_mid_p(rows - count, rows) if count < rows else 0.0)

    g, k = gained / rows, lost / rows
    (g_low, g_high), (k_low, k_high) = limits(gained), limits(lost)
    r = -math.sqrt(g * k / ((1 - g) * (1 - k))) if 0 < g < 1 and 0 < k < 1 else 0.0
    down = math.sqrt((g - g_low) ** 2 + (k_high - k) ** 2 - 2 * r * (g - g_low) * (k_high - k))
    up = math.sqrt((g_high - g) ** 2 + (k - k_low) ** 2 - 2 * r * (g_high - g) * (k - k_low))
    return max(g - k - down, -1.0), min(g - k + up, 1.0)


@cache
def _mid_p(count: int, rows: int) -> float:
    low, high = 0.0, 1.0
    for _ in range(60):
        at = (low + high) / 2
        above = stats.binom.sf(count, rows, at) + stats.binom.pmf(count, rows, at) / 2
        low, high = (at, high) if above < 0.025 else (low, at)
    return low


def outcome_table(sizes: Sequence[int] = (20, 32, 36, 40, 50, 64, 100, 200, 396)) -> None:
    print("| rows | cells | coverage, % | rare cells | coverage, % | before | stated |")
    print("|---|---|---|---|---|---|---|")
    for rows in sizes:
        now, before = Outcomes(rows), Outcomes(rows)
        for gained in range(rows + 1):
            for lost in range(min(gained, rows - gained) + 1):
                low, high = by_parts(gained, lost, rows)
                before.low[gained, lost], before.high[gained, lost] = low, high
                before.low[lost, gained], before.high[lost, gained] = -high, -low
        found = [(rare, now.covered(g, k), now.stated(g, k)) for g, k, rare in cells(rows)]
        often = [100 * covered for rare, covered, _ in found if rare >= RARE - 1e-9]
        seldom = [100 * covered for rare, covered, _ in found if rare < RARE - 1e-9]
        warned = min((stated for _, covered, stated in found if covered > 0.975), default=1.0)
        old = [100 * before.covered(g, k) for g, k, _ in cells(rows)]
        print(
            f"| {rows} | {len(often)} | {extremes(often)} | {len(seldom)} | {extremes(seldom)} | "
            f"{min(old):.1f} | {100 * warned:.0f} % |",
            flush=True,
        )


def extremes(values: Sequence[float]) -> str:
    return f"{min(values):.1f} to {max(values):.1f}" if values else "–"


def right_rows(sizes: Sequence[int] = (20, 32, 40, 50, 64, 100, 200, 396, 1000)) -> None:
    print("\n| rows | five right and wrong, % | rarer, % | rates above 97.5 % |\n|---|---|---|---|")
    for rows in sizes:
        ends = [share_limits((np.arange(rows) < n).astype(float)) for n in range(rows + 1)]
        low, high = np.array(ends).T
        rates = np.linspace(0.05, min(rows / 2, 60), 600) / rows
        chances = stats.binom.pmf(np.arange(rows + 1), rows, rates[:, None])
        inside = (low <= rates[:, None]) & (high >= rates[:, None])
        covered = 100 * (chances * inside).sum(axis=1)
        often, seldom = covered[rates * rows >= RARE], covered[rates * rows < RARE]
        wide = 100 * (often > 97.5).mean()
        print(
            f"| {rows} | {extremes(often.tolist())} | {extremes(seldom.tolist())} | {wide:.1f} % |",
            flush=True,
        )


def seed_cell(
    draw: np.random.Generator, rows: int, seeds: int, own: float, between: float, tries: int
) -> float:
    """Coverage over other rows and seeds: rows and seeds have effects on the log-odds of 0.5."""
    many = draw.normal(size=(2, 400_000))
    truth = float(special.expit(own * many[0] + between * many[1]).mean()) - 0.1
    held = 0
    for _ in range(tries):
        odds = own * draw.normal(size=(rows, 1)) + between * draw.normal(size=(1, seeds))
        right = draw.random((rows, seeds)) < special.expit(odds)
        deltas = right - (draw.random((rows, 1)) < 0.1).astype(float)
        of_rows = clustered_interval(deltas.mean(axis=1), bounded=True)
        assert of_rows is not None
        held += not over_seeds(deltas, of_rows).excludes(truth)
    return 100 * held / tries


def seed_table(tries: int) -> None:
    print("\n| rows | seeds | rows without effect, % | small | large |\n|---|---|---|---|---|")
    draw = np.random.default_rng(21)
    for rows in (32, 100, 396, 1000):
        for seeds in (3, 5):
            found = [
                extremes(
                    [seed_cell(draw, rows, seeds, own, sd, tries) for sd in (0, 0.15, 0.4, 1.0)]
                )
                for own in (0.0, 1.5, 6.0)
            ]
            print(f"| {rows} | {seeds} | {' | '.join(found)} |", flush=True)


def channel_coverage(rows: int, symbols: int, named: float, right: float) -> tuple[float, float]:
    """Coverage of the bits of a channel whose wrong answers are even, and of the low end alone."""
    places = np.arange(rows)
    wrong = 1.0 - right
    doubt = special.entr(right) + special.entr(wrong)
    truth = named * (math.log2(symbols) - doubt / math.log(2) - wrong * math.log2(symbols - 1))
    held = bounded = 0.0
    for names in range(rows + 1):
        chance = stats.binom.pmf(names, rows, named)
        if chance < 1e-7:
            continue
        for hits in range(names + 1):
            each = chance * stats.binom.pmf(hits, names, right)
            if each < 1e-7:
                continue
            _, low, high = bits_at_least(places < hits, places < names, symbols)
            held += each * (low - 1e-9 <= truth <= high + 1e-9)
            bounded += each * (low - 1e-9 <= truth)
    return 100 * held, 100 * bounded


CHANNELS = {
    "noiseless": (1.0, 1.0),
    "symmetric, 90 % right": (1.0, 0.9),
    "symmetric, 50 % right": (1.0, 0.5),
    "erasure, 50 %": (0.5, 1.0),
    "erasure, 90 %": (0.1, 1.0),
    "30 % erased, 80 % right": (0.7, 0.8),
    "useless": (1.0, 0.0),
}
"""Shares of uses that name a symbol, and of these that name the right one; 0 is one in K."""


def channel_table(sizes: Sequence[int] = (32, 64, 100, 200)) -> None:
    print("\n| channel | " + " | ".join(f"{rows} rows" for rows in sizes) + " |")
    print("|---" * (len(sizes) + 1) + "|")
    for name, (named, right) in CHANNELS.items():
        found = []
        for rows in sizes:
            of_rows = [
                channel_coverage(rows, k, named, right or 1 / k)[0] for k in (2, 8, 48, 1024)
            ]
            found.append(extremes(of_rows))
        print(f"| {name} | {' | '.join(found)} |", flush=True)


def probe_scores(
    draw: np.random.Generator, rows: int, answers: int, noise: float, held_out: str, tries: int
) -> list[ProbeScore]:
    """Probes of states that are linear in an answer's vector; the answers are drawn each time."""
    mapped, fixed = draw.normal(size=(10, 32)) / math.sqrt(10), draw.normal(size=(answers, 10))
    found = []
    for at in range(tries):
        vectors = fixed if held_out == "rows" else draw.normal(size=(answers, 10))
        of_row = draw.integers(answers, size=rows)
        states = vectors[of_row] @ mapped + noise * draw.normal(size=(rows, 32))
        names = [f"a{n:03d}" for n in of_row]
        kind = "rows" if held_out == "rows" else "answers"
        found.append(probe(states, names, vectors[of_row], at, held_out=kind))
    return found


def probe_coverage(scores: Sequence[ProbeScore]) -> float:
    truth = float(np.mean([score.right / score.rows for score in scores]))
    ends = [share_limits((np.arange(each.rows) < each.right).astype(float)) for each in scores]
    return 100 * float(np.mean([low <= truth <= high for low, high in ends]))


def probe_table(tries: int) -> None:
    print("\n| rows | answers | held out | right | coverage, % | dealt out |")
    print("|---|---|---|---|---|---|")
    draw = np.random.default_rng(22)
    for rows, answers, noise in ((120, 12, 0.8), (200, 35, 1.2), (200, 100, 1.2), (400, 69, 1.0)):
        for held_out in ("rows", "answers"):
            scores = probe_scores(draw, rows, answers, noise, held_out, tries)
            right, dealt = (
                float(np.mean([getattr(score, name) / score.rows for score in scores]))
                for name in ("right", "shuffled_right")
            )
            print(
                f"| {rows} | {answers} | {held_out} | {right:.2f} | "
                f"{probe_coverage(scores):.1f} | "
                f"{dealt:.3f} of {1 / answers:.3f} |",
                flush=True,
            )


def own_and_other(
    draw: np.random.Generator, rows: int, seeds: int, own: float, *, deranged: bool
) -> Floats:
    """Sums of row deltas, own state less another row's: states are good or bad for any row."""
    answers, hard, good = draw.integers(40, size=rows), *draw.normal(size=(2, rows))
    right = draw.random(rows) < special.expit(1.5 * hard - 2 + 1.5 * good + own)
    sums, kept = seeds * right.astype(float), np.ones(rows, dtype=bool)
    for _ in range(seeds):
        donors = draw.integers(rows, size=rows)
        if deranged:  # one cycle through all rows: no row is its own donor
            cycle = draw.permutation(rows)
            donors[cycle] = np.roll(cycle, 1)
        kept &= answers[donors] != answers
        sums -= draw.random(rows) < special.expit(1.5 * hard - 2 + 1.5 * good[donors])
    return sums[kept]


def p_value(sums: Floats, seeds: int) -> float:
    """As `Difference.p` of a 0/1 metric."""
    if seeds == 1:
        return exact_mcnemar(int((sums > 0).sum()), int((sums < 0).sum()))
    mean = BoundedMean(sums / seeds)
    of_limits = min(1.0, 2 * min(mean.p_above(0.0), mean.p_below(0.0)))
    return max(exact_mcnemar_over_seeds(sums.astype(np.int64)), of_limits)


def donor_cell(
    draw: np.random.Generator, rows: int, seeds: int, own: float, tries: int, *, deranged: bool
) -> tuple[float, float]:
    """Coverage of the row-specific difference, and how often it is called different from 0."""
    truth = float(
        np.mean([own_and_other(draw, 20_000, 1, own, deranged=True).mean() for _ in range(20)])
    )
    held = found = 0
    for _ in range(tries):
        sums = own_and_other(draw, rows, seeds, own, deranged=deranged)
        interval = clustered_interval(sums / seeds, bounded=True)
        assert interval is not None
        held += not interval.excludes(truth)
        found += p_value(sums, seeds) < 0.05
    return 100 * held / tries, 100 * found / tries


def donor_table(tries: int) -> None:
    print("\n| rows | seeds | donors | nothing of the row: coverage, p < 0.05 | some | much |")
    print("|---|---|---|---|---|---|")
    draw = np.random.default_rng(23)
    for rows in (64, 396):
        for seeds in (1, 3):
            for deranged in (True, False):
                found = [
                    donor_cell(draw, rows, seeds, own, tries, deranged=deranged)
                    for own in (0.0, 1.0, 4.0)
                ]
                name = "each once" if deranged else "drawn by row"
                shown = [f"{found[0][0]:.1f}, {found[0][1]:.1f}"] + [
                    f"{covered:.1f}" for covered, _ in found[1:]
                ]
                print(f"| {rows} | {seeds} | {name} | {' | '.join(shown)} |", flush=True)
    for channels in (3, 8):
        wrong = sum(
            min(
                holm(
                    [
                        p_value(own_and_other(draw, 396, 1, 0.0, deranged=True), 1)
                        for _ in range(channels)
                    ]
                )
            )
            < 0.05
            for _ in range(tries // 2)
        )
        print(f"\nfamily of {channels} channels, 396 rows: {200 * wrong / tries:.1f} %", flush=True)


def gap_table(tries: int, rows: int = 396) -> None:
    """Shares of a gap: the part that closes is drawn for each row and partly for each seed."""
    at = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)
    print("\n| gap | seeds | " + " | ".join(f"{100 * share:g} %" for share in at) + " |")
    print("|---" * (len(at) + 2) + "|")
    draw = np.random.default_rng(24)
    for gap in (0.12, 0.3, 0.97):
        for seeds in (1, 3):
            line = []
            for share in at:
                held = shown = 0
                for _ in range(tries):
                    kind, own = draw.random((2, rows))
                    floor = (kind < 0.02).astype(float)
                    whole = ((kind >= 0.02) & (kind < 0.02 + gap)).astype(float)
                    part = np.zeros(rows)
                    for _seed in range(seeds):
                        luck = np.where(draw.random(rows) < 0.7, own, draw.random(rows))
                        part += np.where(whole > 0, luck < share, floor) - floor
                    found, _ = share_of(part / seeds, whole)
                    if found is not None:
                        shown += 1
                        held += not found.interval.excludes(share)
                line.append(f"{100 * held / shown:.1f}")
            print(f"| {gap} | {seeds} | {' | '.join(line)} |", flush=True)


PARTS: dict[str, Callable[[int], None]] = {
    "outcomes": lambda tries: outcome_table(),
    "right": lambda tries: right_rows(),
    "seeds": seed_table,
    "channels": lambda tries: channel_table(),
    "probes": probe_table,
    "donors": donor_table,
    "gaps": gap_table,
}

if __name__ == "__main__":
    asked = sys.argv[2:] or list(PARTS)
    for part in asked:
        PARTS[part](int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
