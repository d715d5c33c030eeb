"""`statebridge validate`: whether results are what they are declared to be."""

from __future__ import annotations

from typing import Annotated

import typer

from statebridge.commands.options import AsJson, Sources

Expect = Annotated[
    str | None,
    typer.Option(
        help="published (21 files) or published-strict (24); a run declares its own.",
        show_default=False,
    ),
]


def validate(sources: Sources, expect: Expect = None, as_json: AsJson = False) -> None:
    """Check results against what must be there; exit code 1 where something is blocking."""
    from statebridge.results.sources import read_sources
    from statebridge.validation import EXPECTATIONS
    from statebridge.validation import validate as validate_results
    from statebridge.validation.expectation import run_expectation

    declared = None if expect is None else EXPECTATIONS.get(expect)()
    results = read_sources(sources, strict=False)
    report = validate_results(results, declared or run_expectation(results))
    if as_json:
        print(report.model_dump_json())
    else:
        for finding in report.findings:
            print(finding)
        print(
            f"{report.passed_cells} of {report.expected_cells} cells pass "
            f"({report.expectation}); {len(report.blocking)} blocking, "
            f"{len(report.warnings)} warnings"
        )
    if not report.passed:
        raise typer.Exit(1)
