"""Effect of each check inside the sender on its answer: the median row, with its interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from statebridge.records import Record
from statebridge.results.sender_checks import (
    AnswerMeasure,
    Replacement,
    SenderCheck,
    SenderChecks,
)
from statebridge.stats.comparison import Interval
from statebridge.stats.inference.intervals import centre_value, clustered_interval
from statebridge.stats.inference.means import is_constant

NEGLIGIBLE = 0.1
"""Nats: a change of the answer's probability by a tenth. An interval that lies within shows no
change; one that reaches no nearer to zero than rounding shows a change."""
ROUNDING = 0.001
"""Nats: smaller differences of float32 or narrower forward passes mean nothing."""

Outcome = Literal["falls", "rises", "unchanged", "open"]


class AnswerChange(Record):
    """An answer's measures before and after: means over rows, and the median row's difference."""

    logprob_before: float
    logprob_after: float
    difference: float
    """Median of the rows' differences; of their mean no interval holds."""
    interval: Interval | None
    """Interval of the difference, rows as clusters; None for too few rows or equal differences."""
    equal: bool = False
    """Whether the difference is the same in every row, of which there are several."""
    right_before: float
    """Share of rows in which greedy decoding, without penalties, would give this answer."""
    right_after: float
    first_before: float
    """Share of rows in which its first token is the most probable one."""
    first_after: float

    @property
    def outcome(self) -> Outcome:
        """Change of the log-probability; `open` where the rows do not decide."""
        if self.interval is None:
            return "unchanged" if self.equal and abs(self.difference) < NEGLIGIBLE else "open"
        low, high = self.interval.low, self.interval.high
        if low > -NEGLIGIBLE and high < NEGLIGIBLE:
            return "unchanged"
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


def sender_effects(checks: SenderChecks, *, level: float = 0.95) -> list[SenderEffect]:
    """Return the effect of every check that has a row, in their order.

    All intervals hold together at `level` (Bonferroni), since each of them may call for a
    sentence: with m of them each is at 1 − (1 − level) / m, and exact.
    """
    held = [check for check in checks.checks if check.rows]
    shown = len(held) + sum(any(row.donor_after for row in check.rows) for check in held)
    each = 1.0 - (1.0 - level) / max(shown, 1)
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
                gold=_change(gold, each),
                donor=_donor_change(check, each),
            )
        )
    return effects


def _donor_change(check: SenderCheck, level: float) -> AnswerChange | None:
    measures = [
        (row.donor_before, row.donor_after)
        for row in check.rows
        if row.donor_before is not None and row.donor_after is not None
    ]
    return _change(measures, level) if measures else None


def _change(measures: Sequence[tuple[AnswerMeasure, AnswerMeasure]], level: float) -> AnswerChange:
    before, after = zip(*measures, strict=True)
    deltas = np.array([b.logprob - a.logprob for a, b in measures])
    return AnswerChange(
        logprob_before=_mean([m.logprob for m in before]),
        logprob_after=_mean([m.logprob for m in after]),
        difference=centre_value(deltas, bounded=False),
        interval=clustered_interval(deltas, bounded=False, level=level, exact=True),
        equal=len(deltas) > 1 and is_constant(deltas),
        right_before=_mean([m.all_right for m in before]),
        right_after=_mean([m.all_right for m in after]),
        first_before=_mean([m.first_right for m in before]),
        first_after=_mean([m.first_right for m in after]),
    )


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
