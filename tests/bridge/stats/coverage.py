"""Coverage of the intervals on simulated cells, and how often a true null is rejected.

    python -m tests.bridge.stats.coverage [tries]

prints the tables of docs/statistics.md. `pytest -m soak tests/bridge/stats/test_coverage.py` holds
the same cells to their bars, and the tests that always run hold a few of them.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from statebridge.stats.inference.hypothesis_tests import exact_mcnemar, tost
from statebridge.stats.inference.intervals import clustered_interval, over_seeds
from statebridge.stats.shares import LEAST_ERRORS, bounded_rest
from tests.bridge.stats.simulated import (
    Sample,
    Study,
    continuous_study,
    discordant_study,
    exponential,
    gap_study,
    log_normal,
    normal,
    rare_rescues,
    seeded_accuracy_study,
    student_3,
)

Limits = Callable[[Study, Sample], "tuple[float, float, float] | None"]
"""The two limits and what they are to hold; None where nothing is shown."""


@dataclass(frozen=True)
class Measured:
    """How often the limits held the truth, in per cent of the samples that showed any."""

    study: Study
    shown: float
    covered: float
    above: float
    """Limits above the truth."""
    below: float

    @property
    def error(self) -> float:
        """Monte-Carlo standard error of a coverage of 95 %, in per cent."""
        return 100 * math.sqrt(0.05 * 0.95 / max(self.shown, 1))


def measure(study: Study, limits: Limits, tries: int, key: int = 11) -> Measured:
    """Draw samples and count on which side of the truth their limits lie."""
    draw = np.random.default_rng(key)
    found = [limits(study, study.draw(draw)) for _ in range(tries)]
    shown = [each for each in found if each is not None]
    above = sum(low > truth for low, _, truth in shown)
    below = sum(high < truth for _, high, truth in shown)
    count = max(len(shown), 1)
    return Measured(
        study,
        len(shown),
        100 * (len(shown) - above - below) / count,
        100 * above / count,
        100 * below / count,
    )


def difference(study: Study, sample: Sample) -> tuple[float, float, float] | None:
    found = clustered_interval(sample.deltas, bounded=study.zero_one)
    return None if found is None else (found.low, found.high, study.truth)


def equivalence(study: Study, sample: Sample) -> tuple[float, float, float] | None:
    """Limits of the equivalence test, one-sided 5 % each."""
    found = tost(sample.deltas, ())
    return None if found is None else (found.interval.low, found.interval.high, study.truth)


def seeds(study: Study, sample: Sample) -> tuple[float, float, float] | None:
    rows = clustered_interval(sample.deltas, bounded=study.zero_one)
    if rows is None:
        return None
    deltas = sample.condition - sample.baseline[:, None]
    found = over_seeds(deltas, rows)
    return found.low, found.high, study.truth


def share(study: Study, sample: Sample) -> tuple[float, float, float] | None:
    """Whether Fieller's limits hold the true share: what is left at it may then be 0."""
    assert study.share is not None
    part, whole = sample.deltas, sample.gaps
    error = whole.std(ddof=1) / math.sqrt(len(whole))
    if whole.mean() <= 0 or whole.mean() < LEAST_ERRORS * error:
        return None
    return (*bounded_rest(part, whole, study.share).limits(0.95), 0.0)


def rejects(study: Study, sample: Sample) -> tuple[float, float, float] | None:
    """As limits: a p under 5 % lies above or below the truth, which is 0."""
    above, below = int((sample.deltas > 0).sum()), int((sample.deltas < 0).sum())
    found = exact_mcnemar(above, below) < 0.05
    return (1.0 if found and above > below else -1.0, -1.0 if found and above < below else 1.0, 0.0)


def few_seeded() -> Study:
    return seeded_accuracy_study(396, 3, 0.01, rate=0.04)


ROWS = (32, 64, 100, 396, 1000)
SEEDS = ((1, 1.0), (3, 0.0), (3, 0.7), (5, 0.0), (5, 0.7))
"""Numbers of seeds, and how far the seeds of a row agree."""
MOVED = ((0, 0.01), (0, 0.05), (0.05, 0.05), (0, 0.2), (0.2, 0.2), (0.3, 0.1), (0.02, 0.6))
SHARES = (0.005, 0.01, 0.1, 0.5, 0.9, 0.99, 0.995)
SHAPES = {
    "normal": normal,
    "exponential": exponential,
    "Student t, 3 degrees": student_3,
    "log-normal 1": log_normal(1.0),
    "log-normal 1.5": log_normal(1.5),
    "1 % rescued": rare_rescues(0.01),
    "2 % rescued": rare_rescues(0.02),
    "5 % rescued": rare_rescues(0.05),
    "10 % rescued": rare_rescues(0.10),
}


def differences() -> list[Study]:
    return [
        discordant_study(rows, seeds, *moved, agreement=agreement)
        for rows in ROWS
        for seeds, agreement in SEEDS
        for moved in MOVED
    ]


def ceilings() -> list[Study]:
    return [
        gap_study(rows, seeds, rate, gap=1.0, floor=0.0, agreement=agreement)
        for rows in ROWS
        for seeds, agreement in SEEDS
        for rate in (0.9, 0.95, 0.99, 0.995)
    ]


def shares() -> list[Study]:
    return [
        gap_study(rows, seeds, at, gap=gap, agreement=agreement)
        for rows in ROWS
        for seeds, agreement in SEEDS
        for gap in (0.9, 0.3)
        for at in SHARES
    ] + [
        gap_study(rows, 3, at, gap=gap, floor=0.02)
        for rows in (100, 396, 1000)
        for gap in (0.05, 0.08, 0.12)
        for at in (0.0, 0.5)
    ]


def continuous() -> list[Study]:
    return [continuous_study(name, shape, rows) for name, shape in SHAPES.items() for rows in ROWS]


def seeded() -> list[Study]:
    return [
        study
        for rows in (32, 100, 396, 1000)
        for seeds in (3, 5)
        for study in (*(seeded_accuracy_study(rows, seeds, sd) for sd in (0.0, 0.01, 0.03, 0.1)),)
    ]


def margins() -> list[Study]:
    return [
        discordant_study(rows, seeds, gained / 0.8, (margin + gained) / 0.8)
        for rows in (100, 200, 396, 1000)
        for seeds in (1, 3)
        for margin in (0.03, 0.05, 0.1)
        for gained in (0.0, 0.01)
    ]


AUDITED: list[tuple[str, str, Study, Limits]] = [
    ("share of 1 % of the gap", "49", gap_study(64, 1, 0.01), share),
    ("share of 1 % of the gap", "74", gap_study(64, 3, 0.01), share),
    ("share of 1 % of the gap", "62", gap_study(100, 1, 0.01), share),
    ("share of 1 % of the gap", "90", gap_study(100, 3, 0.01), share),
    ("share of 99 % of the gap", "45", gap_study(64, 1, 0.99), share),
    ("share of 99 % of the gap", "74", gap_study(64, 3, 0.99), share),
    ("nothing of a gap of 0.08", "83", gap_study(396, 3, 0.0, gap=0.08, floor=0.02), share),
    ("share of a loss, as in the failure chain", "85.6", gap_study(100, 3, 0.1, gap=0.3), share),
    ("right in 95 % of rows", "–", gap_study(64, 3, 0.95, gap=1.0, floor=0.0), difference),
    ("right in 98 % of rows", "–", gap_study(64, 3, 0.98, gap=1.0, floor=0.0), difference),
    ("log-normal 1.5", "91", continuous_study("", log_normal(1.5), 396), difference),
    ("2 % of rows at +10 nats", "89", continuous_study("", rare_rescues(0.02), 396), difference),
    (
        "1 % of rows at +10 nats, others within 0.3",
        "62",
        continuous_study("", rare_rescues(0.01, noise=0.3), 100),
        difference,
    ),
    (
        "2 % of rows at +10 nats, others within 0.3",
        "85",
        continuous_study("", rare_rescues(0.02, noise=0.3), 100),
        difference,
    ),
    ("mean of another seed, seeds differ by 0.01", "83", few_seeded(), seeds),
]
"""The cells of the audit: name, coverage found there in per cent, cell, what is measured."""
AUDITED_TESTS: list[tuple[str, str, Study, Limits]] = [
    ("p < 0.05, log-normal 1.5", "10 to 15", continuous_study("", log_normal(1.5), 396), rejects),
    (
        "p < 0.05, 2 % of rows at +10 nats",
        "8 to 12",
        continuous_study("", rare_rescues(0.02), 396),
        rejects,
    ),
]


def summary(name: str, measured: Sequence[Measured]) -> str:
    """One line: the extremes over the cells with at least five and with fewer rare rows."""
    shown = [each for each in measured if each.shown]
    often = [each for each in shown if not each.study.zero_one or each.study.rare >= 5]
    seldom = [each for each in shown if each not in often]

    def extremes(found: Sequence[Measured]) -> str:
        if not found:
            return "–"
        covered = [each.covered for each in found]
        return f"{min(covered):.1f} to {max(covered):.1f}"

    inside = sum(93.5 <= each.covered <= 97.5 for each in often)
    return f"| {name} | {len(often)} | {extremes(often)} | {inside} | {len(seldom)} | " + (
        f"{extremes(seldom)} |"
    )


def by_rows(studies: Iterable[Study], limits: Limits, tries: int, name: str) -> list[str]:
    lines = []
    for rows in ROWS:
        here = [study for study in studies if study.rows == rows]
        if here:
            lines.append(
                summary(f"{name}, {rows} rows", [measure(study, limits, tries) for study in here])
            )
            print(lines[-1], flush=True)
    return lines


def audited(tries: int) -> None:
    print("\n| cell | rows, seeds | before | after | above, below |\n|---|---|---|---|---|")
    for name, before, study, limits in AUDITED:
        found = measure(study, limits, tries)
        print(
            f"| {name} | {study.rows}, {study.seeds} | {before} | {found.covered:.1f} | "
            f"{found.above:.1f}, {found.below:.1f} |",
            flush=True,
        )
    print("\n| false claim | rows | before | after |\n|---|---|---|---|")
    for name, before, study, limits in AUDITED_TESTS:
        found = measure(study, limits, tries)
        print(f"| {name} | {study.rows} | {before} | {found.above + found.below:.1f} |", flush=True)


def main(tries: int = 2000) -> None:
    audited(tries)
    print(f"\n{tries} samples a cell\n")
    head = "| intervals | cells | coverage, % | in 93.5 to 97.5 | rare cells | coverage, % |"
    print(f"{head}\n|---|---|---|---|---|---|")
    by_rows(differences(), difference, tries, "0/1 difference")
    by_rows(ceilings(), difference, tries, "0/1 near a ceiling")
    by_rows(shares(), share, tries, "share of a gap")
    by_rows(seeded(), seeds, tries, "new rows and seeds")
    print("\n| deltas | rows | coverage, % | above, below | p < 0.05 |\n|---|---|---|---|---|")
    for study in continuous():
        found, false = measure(study, difference, tries), measure(study, rejects, tries)
        name = study.name.split(",")[0] if "Student" not in study.name else "Student t, 3 degrees"
        print(
            f"| {name} | {study.rows} | {found.covered:.1f} | {found.above:.1f}, "
            f"{found.below:.1f} | {false.above + false.below:.1f} |",
            flush=True,
        )
    print("\n| equivalence of a 0/1 metric | type I, % |\n|---|---|")
    for study in margins():
        found = measure(study, equivalence, tries)
        print(f"| {study.name} | {max(found.above, found.below):.1f} |", flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
