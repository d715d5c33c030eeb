"""Simulated cells of which the truth is known, on which intervals and tests are measured.

A `Study` draws samples. A sample holds values by row and seed, as a comparison sees them: the
condition's, the baseline's (the floor) and, where a share is asked for, the ceiling's. `results`
of a sample is a result set that `compare` reads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from statebridge.records import CellResult, ResultSet
from tests.bridge.stats.tables import cell, measured
from tests.bridge.stats.tables import results as result_set

Floats = npt.NDArray[np.float64]
Draw = np.random.Generator
SEED_NAMES = (42, 123, 456, 789, 1011)


@dataclass(frozen=True)
class Sample:
    """Values of one simulated experiment."""

    condition: Floats
    """Shape (rows, seeds)."""
    baseline: Floats
    """Shape (rows,)."""
    ceiling: Floats | None = None
    """Shape (rows,)."""

    @property
    def deltas(self) -> Floats:
        """Condition less baseline, each row averaged over the seeds, shape (rows,)."""
        return np.asarray((self.condition - self.baseline[:, None]).mean(axis=1))

    @property
    def gaps(self) -> Floats:
        """Ceiling less baseline, shape (rows,)."""
        assert self.ceiling is not None
        return self.ceiling - self.baseline

    def results(
        self,
        metric: str,
        *,
        condition: str = "private_last",
        baseline: str = "question_only",
        ceiling: str = "skyline",
    ) -> ResultSet:
        """Return a result set: 0/1 values as right and wrong texts, others as `metric`."""
        zero_one = metric not in ("gold_logprob", "gold_rank", "kl_from_no_inject")

        def one(name: str, values: Floats, seed: int | None = None) -> CellResult:
            if zero_one:
                return cell(name, [int(value) for value in values], seed)
            return measured(name, metric, values.tolist(), seed)

        cells = [one(baseline, self.baseline)]
        if self.ceiling is not None:
            cells.append(one(ceiling, self.ceiling))
        cells += [
            one(condition, values, seed)
            for values, seed in zip(self.condition.T, SEED_NAMES, strict=False)
        ]
        return result_set(*cells)


@dataclass(frozen=True)
class Study:
    """A way to draw samples, and what is true of them."""

    name: str
    rows: int
    seeds: int
    zero_one: bool
    truth: float
    """Mean delta of the rows that the sample is drawn from; without bounds their median."""
    draw: Callable[[Draw], Sample]
    share: float | None = None
    """True share of the gap, where there is a ceiling."""
    rare: float = 0.0
    """Rows that are expected to leave the commonest delta (shares: of the rarer side of the gap);
    an interval may be conservative where it is below 5."""


def shared_by_seeds(chance: Floats, seeds: int, agreement: float, draw: Draw) -> Floats:
    """Return 0/1 outcomes, shape (rows, seeds), right with the chance that each row has.

    With probability `agreement` a seed repeats the outcome that the row's seeds share; otherwise
    it has its own.
    """
    rows = len(chance)
    shared = draw.random(rows) < chance
    own = draw.random((rows, seeds)) < chance[:, None]
    together = draw.random((rows, seeds)) < agreement
    return np.where(together, shared[:, None], own).astype(float)


def gap_study(
    rows: int,
    seeds: int,
    share: float,
    *,
    gap: float = 0.9,
    floor: float = 0.05,
    agreement: float = 0.7,
) -> Study:
    """A 0/1 channel that closes a share of the gap; rows at the floor stay right.

    A row is right at the floor, right under the ceiling only, or wrong under both. Of the rows in
    the gap, a share is right under the channel.
    """

    def sample(draw: Draw) -> Sample:
        place = draw.random(rows)
        base = place < floor
        inside = (place >= floor) & (place < floor + gap)
        closed = shared_by_seeds(np.full(rows, share), seeds, agreement, draw)
        condition = np.where(base[:, None], 1.0, np.where(inside[:, None], closed, 0.0))
        return Sample(condition, base.astype(float), (base | inside).astype(float))

    return Study(
        name=f"{share:.1%} of a gap of {gap:g}, {rows} rows, {seeds} seeds",
        rows=rows,
        seeds=seeds,
        zero_one=True,
        truth=share * gap,
        draw=sample,
        share=share,
        rare=rows * gap * min(share, 1.0 - share),
    )


def discordant_study(
    rows: int, seeds: int, gained: float, lost: float, *, agreement: float = 0.7
) -> Study:
    """A 0/1 condition that gains a share of the rows and loses another."""

    def sample(draw: Draw) -> Sample:
        place = draw.random(rows)
        gains, loses = place < gained, (place >= gained) & (place < gained + lost)
        base = np.where(gains, 0.0, np.where(loses, 1.0, (draw.random(rows) < 0.5) * 1.0))
        happens = shared_by_seeds(np.full(rows, 0.8), seeds, agreement, draw)
        moved = (gains | loses)[:, None] & (happens > 0)
        return Sample(np.where(moved, 1.0 - base[:, None], base[:, None]), base)

    return Study(
        name=f"gains {gained:.1%}, loses {lost:.1%}, {rows} rows, {seeds} seeds",
        rows=rows,
        seeds=seeds,
        zero_one=True,
        truth=0.8 * (gained - lost),
        draw=sample,
        rare=0.8 * rows * (gained + lost),
    )


Shape = Callable[[Draw, int], Floats]
"""Draws deltas, shape (rows,)."""


def normal(draw: Draw, rows: int) -> Floats:
    return draw.standard_normal(rows)


def exponential(draw: Draw, rows: int) -> Floats:
    return draw.exponential(1.0, rows) - 1.0


def student_3(draw: Draw, rows: int) -> Floats:
    return draw.standard_t(3, rows)


def log_normal(sigma: float) -> Shape:
    """Heavy on one side: sigma 1.5 has a skewness of 33."""
    return lambda draw, rows: draw.lognormal(0.0, sigma, rows) - float(np.exp(sigma**2 / 2))


def rare_rescues(share: float, size: float = 10.0, noise: float = 1.0) -> Shape:
    """A share of the rows moves by `size` nats; all others by noise."""

    def shape(draw: Draw, rows: int) -> Floats:
        rescued = draw.random(rows) < share
        return noise * draw.standard_normal(rows) + size * rescued - share * size

    return shape


@lru_cache
def middle(shape: Shape, seeds: int = 1, noise: float = 0.3) -> float:
    """The median of a shape's rows, averaged over their seeds, on many rows."""
    draw = np.random.default_rng(1)
    return float(np.median(_with_seeds(shape, 400_000, seeds, noise, draw).mean(axis=1)))


def _with_seeds(shape: Shape, rows: int, seeds: int, noise: float, draw: Draw) -> Floats:
    deltas = shape(draw, rows)[:, None]
    return deltas if seeds == 1 else deltas + noise * draw.standard_normal((rows, seeds))


def continuous_study(
    name: str, shape: Shape, rows: int, seeds: int = 1, *, shift: float = 0.0, noise: float = 0.3
) -> Study:
    """A metric without bounds: a row's delta is shared by its seeds, with noise between them.

    The median of the deltas is `shift`.
    """

    def sample(draw: Draw) -> Sample:
        base = draw.normal(-6.0, 2.0, rows)
        deltas = _with_seeds(shape, rows, seeds, noise, draw) - middle(shape, seeds, noise)
        return Sample(base[:, None] + deltas + shift, base)

    return Study(f"{name}, {rows} rows, {seeds} seeds", rows, seeds, False, shift, sample)


def seeded_accuracy_study(
    rows: int, seeds: int, seed_sd: float, *, rate: float = 0.3, agreement: float = 0.7
) -> Study:
    """A 0/1 metric whose seeds differ in how many rows they gain, by `seed_sd` of the mean."""

    def sample(draw: Draw) -> Sample:
        rates = np.clip(rate + seed_sd * draw.standard_normal(seeds), 0.0, 1.0)
        # One uniform number for a row where its seeds agree, so that a better seed gains more rows.
        own, shared = draw.random((rows, seeds)), draw.random((rows, 1))
        together = draw.random((rows, seeds)) < agreement
        return Sample((np.where(together, shared, own) < rates).astype(float), np.zeros(rows))

    return Study(
        f"seeds differ by {seed_sd:g} around {rate:g}, {rows} rows, {seeds} seeds",
        rows,
        seeds,
        True,
        rate,
        sample,
        rare=rows * min(rate, 1 - rate),
    )


def strata(sizes: Sequence[int], discordance: Sequence[float], draw: Draw) -> tuple[Floats, Floats]:
    """Return 0/1 deltas of mean 0 and their strata, both (rows,); strata differ in variance only.

    `discordance` is the share of rows of a stratum that are gained or lost.
    """
    labels = np.repeat(np.arange(len(sizes), dtype=float), sizes)
    differs = draw.random(len(labels)) < np.repeat(discordance, sizes)
    return differs * draw.choice([-1.0, 1.0], len(labels)), labels
