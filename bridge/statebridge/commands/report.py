"""`statebridge report`: results as one HTML file and as Markdown."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Annotated

import typer

from statebridge.commands.options import AsJson, Dataset, Sources
from statebridge.commands.validate import Expect, declared_set


def report(
    sources: Sources,
    out: Annotated[Path, typer.Option(help="Folder for report.html and report.md.")],
    dataset: Dataset = None,
    title: Annotated[str | None, typer.Option(help="Of the report.")] = None,
    expect: Expect = None,
    layer_run: Annotated[
        list[Path] | None,
        typer.Option(help="A run at other layers, for the map of layers; may be repeated."),
    ] = None,
    sheet: Annotated[
        list[Path] | None, typer.Option(help="A filled-in audit sheet; may be repeated.")
    ] = None,
    figures: Annotated[bool, typer.Option(help="Draw figures.")] = True,
    as_json: AsJson = False,
) -> None:
    """Write a report: verdict in words, tables, figures, validation, and a browser of rows."""
    from statebridge.audit import read_reading_sheet
    from statebridge.report import write_report
    from statebridge.results.sources import read_sources
    from statebridge.validation import validate

    results = read_sources(sources, dataset=dataset)
    validation = None if expect is None else validate(results, declared_set(expect))
    written = write_report(
        results,
        out,
        title=title,
        validation=validation,
        layer_runs=[read_sources([path]) for path in layer_run or ()],
        agreement=read_reading_sheet(sheet) if sheet else None,
        figures=figures,
        command=shlex.join(["statebridge", "report", *map(str, sources), "--out", str(out)]),
    )
    if as_json:
        print(json.dumps({"files": [str(path) for path in written]}))
        return
    for path in written:
        print(path)
