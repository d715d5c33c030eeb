"""`statebridge audit`: rows on which the metrics disagree, and reading them by hand."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from statebridge.commands.options import AsJson, Sources

app = typer.Typer(
    no_args_is_help=True, help="Rows on which the metrics disagree, and reading them by hand."
)


@app.command("list")
def list_rows(
    sources: Sources,
    per_cell: Annotated[int, typer.Option(help="Rows of each cell at most.", min=1)] = 5,
    sheet: Annotated[
        Path | None, typer.Option(help="Write a CSV sheet to fill in by hand.")
    ] = None,
    sample: Annotated[int | None, typer.Option(help="Rows of the sheet.", min=1)] = None,
    seed: Annotated[int, typer.Option(help="Of the sample.", min=0)] = 0,
    as_json: AsJson = False,
) -> None:
    """Label rows that legacy contains counts and normalised exact match does not."""
    from statebridge.audit import LABELS, write_reading_sheet
    from statebridge.audit import audit as audit_results
    from statebridge.results.sources import read_sources

    report = audit_results(read_sources(sources), per_cell=per_cell)
    written = None
    if sheet is not None and report.rows:
        written = write_reading_sheet(report, sheet, sample, seed)
    if as_json:
        print(report.model_dump_json())
        return
    counts = Counter(row.label for row in report.rows)
    print(f"{len(report.rows)} rows: " + ", ".join(f"{counts[name]} {name}" for name in LABELS))
    for row in report.rows:
        text = " ".join(row.prediction.split())
        print(f"{row.label:18} {row.condition:18} {row.row_id}  {row.gold!r} in {text[:60]!r}")
    if written is not None:
        print(f"{written} rows written to {sheet}")
    elif sheet is not None:
        print(f"there is nothing to read by hand; {sheet} was not written")


@app.command()
def agreement(
    sheets: Annotated[
        list[Path], typer.Argument(metavar="SHEET...", help="Filled-in sheets, one a reader.")
    ],
    as_json: AsJson = False,
) -> None:
    """Agreement and Cohen's kappa of filled-in sheets."""
    from statebridge.audit import read_reading_sheet

    found = read_reading_sheet(sheets)
    if as_json:
        print(found.model_dump_json())
        return
    for pair in (*found.with_labels, *found.between_readers):
        percent = "no row in common" if pair.percent is None else f"{pair.percent:.1f} %"
        kappa = pair.no_kappa_because if pair.kappa is None else f"{pair.kappa:.3f}"
        print(f"{pair.first} and {pair.second}: n {pair.n}, agree {percent}, kappa {kappa}")
