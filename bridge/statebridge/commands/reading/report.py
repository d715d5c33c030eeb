"""`statebridge report`: results as one HTML file and as Markdown."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Annotated

import typer

from statebridge.commands.options import AsJson, Dataset, Sources
from statebridge.commands.reading.results import Expect


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
    figure_format: Annotated[
        list[str] | None,
        typer.Option(help="pdf or png: save figures so too, for papers; may be repeated."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a report: the answer first, tables, figures, validation, and a browser of rows.

    Of a layer search's directory: what was chosen, and what holds of it on the rows kept for that.
    """
    from statebridge.audit import read_reading_sheet
    from statebridge.errors import ResultError
    from statebridge.progress import show_progress
    from statebridge.report import write_layer_search_report, write_report
    from statebridge.results.layer_search import is_layer_search, read_layer_search
    from statebridge.results.read_results import read_sources
    from statebridge.validation import EXPECTATIONS, validate

    command = shlex.join(["statebridge", "report", *map(str, sources), "--out", str(out)])
    if any(is_layer_search(source) for source in sources):
        if len(sources) > 1:
            raise ResultError(
                "a layer search is reported on alone; give its directory and no other"
            )
        given = {
            "--dataset": dataset,
            "--expect": expect,
            "--layer-run": layer_run,
            "--sheet": sheet,
        }
        for option, value in given.items():
            if value:
                raise ResultError(f"{option} does not go with a layer search; leave it out")
        search = read_layer_search(sources[0])
        written = write_layer_search_report(
            search,
            out,
            title=title,
            command=command,
            figures=figures,
            figure_formats=figure_format or (),
        )
        _say(written, as_json=as_json)
        return
    results = read_sources(sources, dataset=dataset)
    validation = None if expect is None else validate(results, EXPECTATIONS.get(expect)())
    with show_progress() as progress:
        written = write_report(
            results,
            out,
            title=title,
            validation=validation,
            layer_runs=[read_sources([path]) for path in layer_run or ()],
            agreement=read_reading_sheet(sheet) if sheet else None,
            figures=figures,
            figure_formats=figure_format or (),
            command=command,
            progress=progress,
        )
    _say(written, as_json=as_json)


def _say(written: list[Path], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"files": [str(path) for path in written]}))
        return
    for path in written:
        print(path)
