"""Effect of each check inside the sender on its answer: means over rows, with intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from statebridge.records import Record
from statebridge.results.sender_checks import (
    AnswerMeasure,
    Replacement,
    SenderCheck,
    SenderChecks,
)
from statebridge.stats.comparison import RESAMPLES, Interval
from statebridge.stats.inference.intervals import Floats, clustered_interval

NEGLIGIBLE = 0.1
"""Nats: a change of the answer's probability by a tenth. An interval that lies within shows no
change; one that reaches no nearer to zero than rounding shows a change."""
ROUNDING = 0.001
"""Nats: smaller differences of float32 or narrower forward passes mean nothing."""

Outcome = Literal["falls", "rises", "unchanged", "open"]


class AnswerChange(Record):
    """An answer's measures before and after, means over rows."""

    logprob_before: float
    logprob_after: float
    difference: float
    interval: Interval | None
    """Interval of the difference, rows as clusters; None for one row or equal differences."""
    right_before: float
    """Share of rows in which greedy decoding, without penalties, would give this answer."""
    right_after: float
    first_before: float
    """Share of rows in which its first token is the most probable one."""
    first_after: float

    @property
    def outcome(self) -> Outcome:
        """Change of the log-probability; `open` where the rows do not decide."""
        low, high = self.difference, self.difference
        if self.interval is not None:
            low, high = self.interval.low, self.interval.high
        if low > -NEGLIGIBLE and high < NEGLIGIBLE:
            return "unchanged"
        if self.interval is None:
            return "open"
        if high < -ROUNDING:
            return "falls"
        return "rises" if low > ROUNDING else "open"


class SenderEffect(Record):
    """One check, over its rows."""

    positions: str
    read_by: tuple[str, ...]
    replacement: Replacement
    n_rows: int
    gold: AnswerChange
    donor: AnswerChange | None
    """Change of the donor's answer, where states are patched."""


def sender_effects(
    checks: SenderChecks, *, level: float = 0.95, resamples: int = RESAMPLES
) -> list[SenderEffect]:
    """Return the effect of every check that has a row, in their order.

    All intervals hold together at `level` (Bonferroni), since each of them may call for a
    sentence: with m of them each is at 1 − (1 − level) / m. So far out in the tail, few rows show
    little, and with fewer than 100 each limit counts the most extreme row on its side once more.
    """
    held = [check for check in checks.checks if check.rows]
    shown = len(held) + sum(any(row.donor_after for row in check.rows) for check in held)
    family = _Family(1.0 - (1.0 - level) / max(shown, 1), resamples, several=shown > 1)
    before = {row.row_id: row.gold for row in checks.rows}
    effects = []
    for check in held:
        gold = [(before[row.row_id], row.gold) for row in check.rows]
        effects.append(
            SenderEffect(
                positions=check.positions,
                read_by=check.read_by,
                replacement=check.replacement,
                n_rows=len(check.rows),
                gold=_change(gold, family),
                donor=_donor_change(check, family),
            )
        )
    return effects


def _donor_change(check: SenderCheck, family: _Family) -> AnswerChange | None:
    measures = [
        (row.donor_before, row.donor_after)
        for row in check.rows
        if row.donor_before is not None and row.donor_after is not None
    ]
    return _change(measures, family) if measures else None


def _change(
    measures: Sequence[tuple[AnswerMeasure, AnswerMeasure]], family: _Family
) -> AnswerChange:
    before, after = zip(*measures, strict=True)
    deltas = np.array([b.logprob - a.logprob for a, b in measures])
    return AnswerChange(
        logprob_before=_mean([m.logprob for m in before]),
        logprob_after=_mean([m.logprob for m in after]),
        difference=_mean(deltas.tolist()),
        interval=family.interval(deltas),
        right_before=_mean([m.all_right for m in before]),
        right_after=_mean([m.all_right for m in after]),
        first_before=_mean([m.first_right for m in before]),
        first_after=_mean([m.first_right for m in after]),
    )


@dataclass(frozen=True)
class _Family:
    """The intervals of all checks of a run."""

    level: float
    """Level of each interval."""
    resamples: int
    several: bool

    def interval(self, deltas: Floats) -> Interval | None:
        """Return the interval of the mean of `deltas`, shape (rows,)."""
        found = clustered_interval(
            deltas, zero_one=False, level=self.level, resamples=self.resamples
        )
        rows = len(deltas)
        if found is None or not self.several or rows >= _ENOUGH_ROWS:
            return found
        share = (1.0 - math.sqrt(rows / _ENOUGH_ROWS)) / (rows + 1)
        mean = float(deltas.mean())
        low = found.low - share * (mean - float(deltas.min()))
        high = found.high + share * (float(deltas.max()) - mean)
        return found.model_copy(update={"low": low, "high": high})


_ENOUGH_ROWS = 100
"""From so many rows on, the limits count the most extreme row whole by themselves."""


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
