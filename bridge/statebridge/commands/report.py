"""`statebridge report`: results as one HTML file and as Markdown."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from statebridge.commands.options import Dataset, Sources


def report(
    sources: Sources,
    out: Annotated[Path, typer.Option(help="Folder for report.html and report.md.")],
    dataset: Dataset = None,
    title: Annotated[str | None, typer.Option(help="Of the report.")] = None,
) -> None:
    """Write a report: verdict in words, tables, figures, validation, and a browser of rows."""
    from statebridge.report import write_report
    from statebridge.results.sources import read_sources

    results = read_sources(sources, dataset=dataset)
    for path in write_report(results, out, title=title):
        print(path)
