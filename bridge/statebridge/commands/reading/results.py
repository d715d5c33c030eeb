"""`statebridge score`, `export` and `validate`: results of runs and published files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from statebridge.commands.options import AsJson, Sources
from statebridge.commands.printing import print_cautions, print_empty_cells, print_scores

Expect = Annotated[
    str | None,
    typer.Option(
        help="published (21 files) or published-strict (24); a run declares its own.",
        show_default=False,
    ),
]


def score(
    sources: Sources,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            help="A measure, or all; may be repeated. [default: the task's primary metric and a "
            "few others]",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print each condition's scores; ± is the standard deviation over seeds."""
    from statebridge.results.service_records import summary_of
    from statebridge.run import Run
    from statebridge.scoring import MEASURES

    metrics = list(MEASURES) if metric == ["all"] else metric
    run = Run(*sources)
    if as_json:
        scores = run.scores(metrics)
        print(json.dumps([summary_of(score).model_dump() for score in scores]))
        return
    print_scores(run, Console(), metrics)
    results = run.results()
    print_empty_cells(results, Console(stderr=True))
    print_cautions(results.cautions)
    for cell in results.cells:
        if not cell.complete:
            Console(stderr=True).print(
                f"note: cell {cell.name} is incomplete ({len(cell.lanes)} rows so far)",
                highlight=False,
            )


def export(
    sources: Sources,
    out: Annotated[Path, typer.Option(help="Folder for the files.")],
    format: Annotated[
        str,
        typer.Option(
            help="published (one h1_*.json per cell), tables as parquet, csv, latex or markdown, "
            "datasets, lm-eval, or inspect."
        ),
    ] = "published",
) -> None:
    """Write results in another format; `published` is that of arXiv 2606.03280."""
    from statebridge.run import Run

    written = Run(*sources).export(out, format)
    if format == "published":
        print(f"{len(written)} files written to {out}")
        return
    for path in written:
        print(path)


def validate(sources: Sources, expect: Expect = None, as_json: AsJson = False) -> None:
    """Check results against what must be there; exit code 1 where something is blocking."""
    from statebridge.run import Run

    report = Run(*sources).validate(expect)
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
