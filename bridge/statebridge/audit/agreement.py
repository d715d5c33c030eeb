"""Agreement between labels: per cent, and Cohen's kappa."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import combinations

from statebridge.audit.disagreement import LABELS, Label
from statebridge.records import Record

AUTOMATIC = "automatic"
"""Stands for the audit's own labels beside the readers."""


class PairAgreement(Record):
    """How far two labellings agree over the rows that both labelled."""

    first: str
    """`automatic`, or the path of a reader's sheet."""
    second: str
    n: int
    agreed: int
    percent: float | None
    """Rows with the same label, in per cent; None without a row in common."""
    kappa: float | None
    """Cohen's kappa (J. Cohen, 1960), unweighted: 1 is full agreement, 0 as by chance."""
    no_kappa_because: str | None
    """Why kappa is None."""
    confusion: dict[Label, dict[Label, int]]
    """First's label, then second's, to rows."""


class Agreement(Record):
    """Readers against the automatic labels, and against each other."""

    with_labels: tuple[PairAgreement, ...]
    between_readers: tuple[PairAgreement, ...]
    """Every pair of readers; empty for one."""
    unfilled: dict[str, int]
    """Rows of each sheet that were left empty, and are left out."""


def agreement_of(
    automatic: Mapping[str, Label],
    readers: Mapping[str, Mapping[str, Label]],
    unfilled: Mapping[str, int],
) -> Agreement:
    """Return the agreement of readers (name to row to label) with the automatic labels."""
    return Agreement(
        with_labels=tuple(
            pair_agreement(AUTOMATIC, automatic, name, labels) for name, labels in readers.items()
        ),
        between_readers=tuple(
            pair_agreement(first, readers[first], second, readers[second])
            for first, second in combinations(readers, 2)
        ),
        unfilled=dict(unfilled),
    )


def pair_agreement(
    first: str, labels: Mapping[str, Label], second: str, others: Mapping[str, Label]
) -> PairAgreement:
    """Compare two labellings (row to label) over the rows that both hold."""
    shared = sorted(labels.keys() & others.keys())
    pairs = Counter((labels[row], others[row]) for row in shared)
    n = len(shared)
    agreed = sum(pairs[label, label] for label in LABELS)
    kappa, because = _kappa(pairs, n, agreed)
    return PairAgreement(
        first=first,
        second=second,
        n=n,
        agreed=agreed,
        percent=100.0 * agreed / n if n else None,
        kappa=kappa,
        no_kappa_because=because,
        confusion={one: {other: pairs[one, other] for other in LABELS} for one in LABELS},
    )


def _kappa(
    pairs: Mapping[tuple[Label, Label], int], n: int, agreed: int
) -> tuple[float | None, str | None]:
    if n == 0:
        return None, "no row was labelled by both"
    rows = {label: sum(pairs[label, other] for other in LABELS) for label in LABELS}
    columns = {label: sum(pairs[other, label] for other in LABELS) for label in LABELS}
    # In whole numbers: by chance agree sum(rows x columns) of n squared.
    by_chance = sum(rows[label] * columns[label] for label in LABELS)
    if by_chance == n * n:
        only = next(label for label in LABELS if rows[label] == n)
        return None, f"both gave every row the same label ({only}): chance agreement is complete"
    return (n * agreed - by_chance) / (n * n - by_chance), None
