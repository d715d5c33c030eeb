"""The result of a validation, as plain records that write themselves as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

from pydantic import computed_field

from statebridge.records import CellResult, Direction, Record

Severity = Literal["blocking", "warning"]
"""`blocking`: the results cannot be used as what they are declared to be. `warning`: they
can, and a reader must know it."""

Check = Literal[
    "missing_cell",
    "duplicate_cell",
    "extra_cell",
    "rows",
    "duplicate_rows",
    "unequal_seeds",
    "exclusions",
    "data_hash",
    "decoding",
    "models",
    "gold",
    "prompt_length",
    "null_prediction",
    "token_ids",
    "sequence_length",
    "donor",
    "self_fallback",
    "edited",
    "unverifiable",
    "self_injection",
    "identical_cells",
]

NAMED_ROWS = 3
"""How many of the rows concerned a reason names."""


class Finding(Record):
    """One thing that is wrong, or that a reader must know."""

    severity: Severity
    check: Check
    cell: str | None
    """`condition` or `condition/seedN`; None where it concerns the whole set."""
    direction: Direction | None
    reason: str
    """One line: what is wrong, and what would be right."""
    row_ids: tuple[str, ...] = ()
    """All rows concerned."""

    def __str__(self) -> str:
        """The finding on one line."""
        where = "" if self.cell is None else f"{self.cell} ({self.direction}): "
        return f"{self.severity}: {where}{self.reason}"


class CellVerdict(Record):
    """The verdict on one cell."""

    cell: str
    direction: Direction
    expected: bool
    found: bool
    rows: int
    passed: bool
    """Found, and nothing blocking was found in it."""


class ValidationReport(Record):
    """All findings, blocking ones first, and a verdict on every cell."""

    expectation: str
    """The name of the expectation."""
    findings: tuple[Finding, ...]
    cells: tuple[CellVerdict, ...]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def passed(self) -> bool:
        """Whether nothing is blocking."""
        return not self.blocking

    @property
    def blocking(self) -> tuple[Finding, ...]:
        """The blocking findings."""
        return tuple(f for f in self.findings if f.severity == "blocking")

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """The other findings."""
        return tuple(f for f in self.findings if f.severity == "warning")

    @computed_field  # type: ignore[prop-decorator]
    @property
    def expected_cells(self) -> int:
        """How many cells must be there."""
        return sum(cell.expected for cell in self.cells)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def passed_cells(self) -> int:
        """How many of them are there with nothing blocking found in them."""
        return sum(cell.expected and cell.passed for cell in self.cells)


def finding(
    severity: Severity,
    check: Check,
    cell: CellResult,
    reason: str,
    row_ids: Iterable[str] = (),
) -> Finding:
    """Return a finding about one cell; `row_ids` are named after the reason, the first few."""
    rows = tuple(row_ids)
    return Finding(
        severity=severity,
        check=check,
        cell=cell.name,
        direction=cell.direction,
        reason=f"{reason}{f': {named(rows)}' if rows else ''}",
        row_ids=rows,
    )


def found_in(
    severity: Severity, check: Check, cell: CellResult, row_ids: Iterable[str], problem: str
) -> Iterator[Finding]:
    """Yield a finding that begins with how many rows the problem is in; none without a row."""
    rows = tuple(row_ids)
    if rows:
        yield finding(severity, check, cell, f"{len(rows)} {problem}", rows)


def named(row_ids: tuple[str, ...]) -> str:
    """Name the first rows, and say how many more there are."""
    first = ", ".join(row_ids[:NAMED_ROWS])
    more = len(row_ids) - NAMED_ROWS
    return f"{first} and {more} more" if more > 0 else first
