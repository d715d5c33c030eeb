"""Validation: every check over a result set, and the verdict."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import get_args

from statebridge.experiment.cells import cell_name
from statebridge.records import ResultSet
from statebridge.registry import Registry
from statebridge.validation.agreement import data_hash, decoding, gold, models, prompt_lengths
from statebridge.validation.expectation import Expectation
from statebridge.validation.presence import cell_presence, row_presence
from statebridge.validation.report import CellVerdict, Check, Finding, ValidationReport
from statebridge.validation.row_facts import row_facts
from statebridge.validation.sameness import identical_cells, self_injection

CHECKS: Registry[Callable[[ResultSet, Expectation], Iterable[Finding]]] = Registry(
    "check of results",
    package="statebridge.papers",
    module="checks",
    group="statebridge.checks",
)
"""Further checks, such as of what a paper's files store beside the rows."""

_CHECK_ORDER = {check: place for place, check in enumerate(get_args(Check))}


def validate(results: ResultSet, expectation: Expectation) -> ValidationReport:
    """Check results against what must be there, against themselves and against each other.

    The order of cells and rows does not matter. Read the results with `strict=False`
    (`statebridge.results.read_results.read_sources`), so that what a strict reader refuses is
    reported with the rest. A check of `CHECKS` may open the result files again.

    Raises:
        ResultError: A result file that was read before can no longer be read.
    """
    ordered = ResultSet(
        cells=sorted(results.cells, key=lambda cell: cell.order),
        dataset=results.dataset,
        manifest=results.manifest,
    )
    findings = chain(
        cell_presence(ordered, expectation),
        row_presence(ordered, expectation),
        data_hash(ordered, expectation),
        decoding(ordered, expectation),
        models(ordered),
        gold(ordered),
        prompt_lengths(ordered),
        row_facts(ordered, expectation),
        *(check(ordered, expectation) for check in CHECKS.values()),
        self_injection(ordered),
        identical_cells(ordered),
    )
    sorted_findings = tuple(sorted(findings, key=_place))
    return ValidationReport(
        expectation=expectation.name,
        findings=sorted_findings,
        cells=tuple(_verdicts(ordered, expectation, sorted_findings)),
    )


def _place(found: Finding) -> tuple[bool, int, str, str, str]:
    return (
        found.severity != "blocking",
        _CHECK_ORDER[found.check],
        found.direction or "",
        found.cell or "",
        found.reason,
    )


def _verdicts(
    results: ResultSet, expectation: Expectation, findings: tuple[Finding, ...]
) -> Iterator[CellVerdict]:
    stopped = {(f.direction, f.cell) for f in findings if f.severity == "blocking"}
    expected = {
        (expectation.direction, cell_name(condition, seed)) for condition, seed in expectation.cells
    }
    rows = {(cell.direction, cell.name): len(cell.lanes) for cell in results.cells}
    for direction, name in sorted(expected | rows.keys()):
        found = (direction, name) in rows
        yield CellVerdict(
            cell=name,
            direction=direction,
            expected=(direction, name) in expected,
            found=found,
            rows=rows.get((direction, name), 0),
            passed=found and (direction, name) not in stopped,
        )
