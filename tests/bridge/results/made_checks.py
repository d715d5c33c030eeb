"""Checks inside a sender, made by rule and without models."""

from __future__ import annotations

from statebridge.results.sender_checks import (
    AnswerMeasure,
    CheckedRow,
    Replacement,
    SenderCheck,
    SenderChecks,
    SenderRow,
)

ROWS = 12


def measure(logprob: float, *, right: bool = True) -> AnswerMeasure:
    """A measure whose two flags agree."""
    return AnswerMeasure(logprob=logprob, first_right=right, all_right=right)


def gold(row: int) -> float:
    """The gold log-probability of a row before anything is replaced."""
    return -0.1 - 0.01 * row


def check(
    positions: str,
    replacement: Replacement,
    fall: float,
    *,
    read: bool = True,
    right: bool = False,
    rows: int = ROWS,
) -> SenderCheck:
    """A check under which row i loses `fall` and a little that differs from row to row."""
    patched = replacement == "patch"
    return SenderCheck(
        positions=positions,
        read_by=("private_last",) if read else (),
        replacement=replacement,
        rows=tuple(
            CheckedRow(
                row_id=f"row{i}",
                replaced=1,
                gold=measure(gold(i) - fall - 0.01 * (i % 3), right=right),
                donor_row_id=f"row{(i + 1) % ROWS}" if patched else None,
                donor_before=measure(-8.0, right=False) if patched else None,
                donor_after=measure(-0.5 - 0.01 * (i % 4), right=i % 2 == 0) if patched else None,
            )
            for i in range(rows)
        ),
    )


def made_checks(*checks: SenderCheck) -> SenderChecks:
    """Checks of a sender that answers all but two of its rows."""
    return SenderChecks(
        sender="tiny",
        layer=2,
        layer_path="gpt_neox.layers.2",
        blocks=4,
        rows=tuple(
            SenderRow(row_id=f"row{i}", tokens=20, gold=measure(gold(i), right=i > 1))
            for i in range(ROWS)
        ),
        checks=checks
        or (
            check("last", "mean", 3.0),
            check("last", "zero", 4.0),
            check("last", "patch", 5.0),
            check("first", "mean", 0.0, read=False, right=True),
        ),
    )
