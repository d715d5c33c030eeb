"""`statebridge audit`: rows on which the metrics disagree, and reading them by hand."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from statebridge.commands.options import AsJson
from statebridge.errors import InputError

if TYPE_CHECKING:
    from statebridge.audit import Agreement, AuditReport


def audit(
    sources: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[SOURCE...]",
            help="Run directories, published result files (h1_*.json), or folders of them.",
            show_default=False,
        ),
    ] = None,
    per_cell: Annotated[int, typer.Option(help="Rows of each cell at most.", min=1)] = 5,
    sheet: Annotated[
        Path | None, typer.Option(help="Write a CSV sheet to label by hand.", show_default=False)
    ] = None,
    sample: Annotated[
        int | None, typer.Option(help="Rows of the sheet.", min=1, show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the sample.", min=0)] = 0,
    filled: Annotated[
        list[Path] | None,
        typer.Option(
            help="A filled-in sheet, one a reader: agreement and Cohen's kappa.",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Label rows that legacy contains counts and normalised exact match does not."""
    if not sources and not filled:
        raise InputError("audit: give results to audit, or --filled sheets to compare")
    from statebridge.audit import audit as audit_results
    from statebridge.audit import read_reading_sheet, write_reading_sheet
    from statebridge.results.read_results import read_sources

    report = audit_results(read_sources(sources), per_cell=per_cell) if sources else None
    agreement = read_reading_sheet(filled) if filled else None
    written = None
    if sheet is not None and report is not None and report.rows:
        written = write_reading_sheet(report, sheet, sample, seed)
    if as_json:
        shown: dict[str, Any] = {} if report is None else report.model_dump(mode="json")
        if agreement is not None:
            shown["agreement"] = agreement.model_dump(mode="json")
        print(json.dumps(shown))
        return
    if report is not None:
        _print_report(report)
    if agreement is not None:
        _print_agreement(agreement)
    if written is not None:
        print(f"{written} rows written to {sheet}")
    elif sheet is not None:
        print(f"there is nothing to read by hand; {sheet} was not written")


def _print_report(report: AuditReport) -> None:
    from statebridge.audit import LABELS

    counts = Counter(row.label for row in report.rows)
    print(f"{len(report.rows)} rows: " + ", ".join(f"{counts[name]} {name}" for name in LABELS))
    for row in report.rows:
        text = " ".join(row.prediction.split())
        print(f"{row.label:18} {row.condition:18} {row.row_id}  {row.gold!r} in {text[:60]!r}")


def _print_agreement(found: Agreement) -> None:
    for pair in (*found.with_labels, *found.between_readers):
        percent = "no row in common" if pair.percent is None else f"{pair.percent:.1f} %"
        kappa = pair.no_kappa_because if pair.kappa is None else f"{pair.kappa:.3f}"
        print(f"{pair.first} and {pair.second}: n {pair.n}, agree {percent}, kappa {kappa}")
