"""Cells that must be equal and are not, or that are equal and should not be.

Two cells with the same text in every row are most often one file under two names, or an
intervention that never took place; pooled, two equal seeds would count one run twice. That
is blocking. It is a warning where the runs are known to be distinct, because a number
measured in both of them differs, or where there are too few rows to know a copy from chance.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from statebridge.experiment.conditions import Condition
from statebridge.records import CellResult, LaneResult, ResultSet
from statebridge.validation.report import Finding, Severity, finding

TOO_FEW_ROWS = 20
"""Below this, equal texts may be chance. The weakest published intervention (additive, 0.013 %
of the norm) leaves about a third of the texts as they were, so 20 equal ones have p < 1e-9."""

_DISTINGUISHING = ("translated_norm_mean", "injected_norm_mean", "gold_logprob", "relay")


def self_injection(results: ResultSet) -> Iterator[Finding]:
    """Find rows where writing the receiver's own state back changed its text."""
    for cell in results.cells:
        if not cell.condition.writes_own_state:
            continue
        baseline = results.floor(cell)
        if baseline is None:
            needed = "question_only" if cell.condition.private else "no_inject"
            yield finding(
                "warning", "self_injection", cell, f"cannot be checked: there is no {needed}"
            )
            continue
        changed = [own.row_id for own, other in _shared(cell, baseline) if _differ(own, other)]
        if changed:
            yield finding(
                "blocking",
                "self_injection",
                cell,
                f"writes back what was there, yet {len(changed)} row(s) differ from "
                f"{baseline.name}",
                changed,
            )


def identical_cells(results: ResultSet) -> Iterator[Finding]:
    """Find two cells with the same text in every row that both have.

    Of many that are known to be distinct runs and say the same, each is named once, beside the
    first that it equals.
    """
    warned: set[tuple[str, str]] = set()
    for cell, other in itertools.combinations(results.cells, 2):
        if cell.direction != other.direction or _may_be_equal(cell, other):
            continue
        pairs = _shared(cell, other)
        if not pairs or any(_differ(own, its) for own, its in pairs):
            continue
        severity: Severity = "blocking"
        why = "nothing measured tells them apart"
        if _told_apart(pairs):
            severity, why = "warning", "other measurements differ, so the runs are distinct"
        elif len(pairs) < TOO_FEW_ROWS:
            severity, why = "warning", "too few to tell a copy from chance"
        if severity == "warning":
            if (other.direction, other.name) in warned:
                continue
            warned.add((other.direction, other.name))
        yield finding(
            severity,
            "identical_cells",
            other,
            f"the same text as {cell.name} in all {len(pairs)} rows that both have; {why}",
        )


def _may_be_equal(cell: CellResult, other: CellResult) -> bool:
    """Whether equal texts are what the two cells' declarations ask for."""
    one, another = cell.condition, other.condition
    if all(condition.role in ("baseline", "self") for condition in (one, another)):
        return True
    # The strictly matched shuffle drops the rows that have no donor and treats the others as
    # the full one does: in the published draws too, since shuffling one item draws nothing.
    return cell.seed == other.seed and (
        one.name == another.name
        or (isinstance(one, Condition) and one.same_but(another, "lone_rows"))
    )


def _shared(cell: CellResult, other: CellResult) -> list[tuple[LaneResult, LaneResult]]:
    """Pair the rows that both cells have a text for."""
    others = {row.row_id: row for row in other.lanes if row.prediction is not None}
    return [
        (row, others[row.row_id])
        for row in cell.lanes
        if row.prediction is not None and row.row_id in others
    ]


def _differ(row: LaneResult, other: LaneResult) -> bool:
    if row.prediction != other.prediction:
        return True
    return (
        row.token_ids is not None
        and other.token_ids is not None
        and row.token_ids != other.token_ids
    )


def _told_apart(pairs: list[tuple[LaneResult, LaneResult]]) -> bool:
    for own, other in pairs:
        for name in _DISTINGUISHING:
            values = (getattr(own, name), getattr(other, name))
            if None not in values and values[0] != values[1]:
                return True
    return False
