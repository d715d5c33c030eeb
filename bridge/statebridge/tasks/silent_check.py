"""Whether a silent receiver, which sees the question only, is at chance.

Where it is above chance, the questions give their answers away, and what a channel seems to
transfer was there without it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import scipy

from statebridge.data.answers import OPTIONS, attribute_names
from statebridge.errors import DatasetError, ResultError
from statebridge.records import DatasetRow


@dataclass(frozen=True, slots=True)
class SilentVerdict:
    """A one-sided exact binomial test of a silent run against chance."""

    n: int
    right: int
    chance: float
    p_value: float
    """Probability, at chance, of as many right answers or more."""
    upper: float
    """Upper end of the one-sided exact (Clopper-Pearson) interval of level 1 - alpha: how far
    above chance the receiver may still be."""
    alpha: float

    @property
    def share(self) -> float:
        """Share of right answers."""
        return self.right / self.n

    @property
    def at_chance(self) -> bool:
        """Whether the run is not shown to be above chance; with few rows that says little."""
        return self.p_value >= self.alpha


def silent_verdict(
    scored: Mapping[str, float], chance: float, *, alpha: float = 0.05
) -> SilentVerdict:
    """Return whether a silent run is above chance.

    Args:
        scored: Row id to 1 (right) or 0 (wrong), of one run: the answers of further seeds to
            the same rows are not independent and have no place in this test.
        chance: Share that is right without any knowledge, 0 to below 1; see `chance_level`.
        alpha: Level of the test.

    Raises:
        ResultError: No row, a score other than 0 and 1, or `chance` or `alpha` out of range.
    """
    if not scored:
        raise ResultError("silent check: there is no scored row; give a run with at least one")
    if not 0 <= chance < 1:
        raise ResultError(f"silent check: chance is {chance}; it must be from 0 to below 1")
    if not 0 < alpha < 1:
        raise ResultError(f"silent check: alpha is {alpha}; it must be between 0 and 1")
    for row_id, score in scored.items():
        if score not in (0, 1):
            raise ResultError(f"silent check: row {row_id!r} has score {score}; it must be 0 or 1")
    right, n = int(sum(scored.values())), len(scored)
    test = scipy.stats.binomtest(right, n, chance, alternative="greater")
    # The upper bound goes with the other one-sided alternative.
    bound = scipy.stats.binomtest(right, n, chance, alternative="less").proportion_ci(
        1 - alpha, "exact"
    )
    return SilentVerdict(n, right, chance, float(test.pvalue), float(bound.high), alpha)


def chance_level(rows: Sequence[DatasetRow]) -> float:
    """Return the share of right answers that needs no knowledge of the contexts.

    Rows with `options`: the mean of one over their number. Rows without: the share of the
    most frequent answer, which a receiver could always give.

    Raises:
        DatasetError: No row; some rows have options and some have none.
    """
    if not rows:
        raise DatasetError("chance level: there is no row; give at least one")
    counts = [len(attribute_names(row, OPTIONS)) for row in rows]
    if all(counts):
        return sum(1 / n for n in counts) / len(rows)
    if any(counts):
        bare = next(row for row, n in zip(rows, counts, strict=True) if not n)
        raise DatasetError(
            f"chance level: row {bare.row_id!r} has no {OPTIONS!r} and others have; "
            "give the rows of one task"
        )
    return max(Counter(row.answer for row in rows).values()) / len(rows)
