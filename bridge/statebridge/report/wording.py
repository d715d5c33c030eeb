"""Sentences that both forms of the report share."""

from __future__ import annotations

from statebridge.records import Direction
from statebridge.report.headline import DESTROYED
from statebridge.report.verdict import Verdict

DIRECTIONS: dict[Direction, str] = {"fwd": "Forward", "rev": "Reverse"}


def verdict_heading(verdict: Verdict) -> str:
    """Return what tells a verdict from the others of a report."""
    return ". ".join(part for part in (DIRECTIONS[verdict.direction], verdict.setting) if part)


RULE = (
    "How the words are chosen: a gain or a loss is called so if its p-value, corrected by Holm "
    "over all conditions, is below alpha; equivalent, if not so and two one-sided tests (TOST) "
    "meet a declared margin; inconclusive otherwise. A gain is stable if every seed shows it. A "
    f"loss is destructive if less than {100 * DESTROYED:.0f} % of the baseline's score is left."
)
