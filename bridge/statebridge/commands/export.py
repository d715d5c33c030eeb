"""`statebridge export`: results as published files or as a table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from statebridge.commands.options import Sources
from statebridge.errors import InputError, ResultError, nearest


def export(
    sources: Sources,
    out: Annotated[Path, typer.Option(help="Folder for the files.")],
    format: Annotated[
        str,
        typer.Option(
            help="published (one h1_*.json per cell), or tables as parquet, csv, latex, markdown."
        ),
    ] = "published",
) -> None:
    """Write results in another format; `published` is that of arXiv 2606.03280."""
    from statebridge.results.sources import read_sources
    from statebridge.tables.formats import EXPORT_FORMATS, export_tables

    if format not in EXPORT_FORMATS:
        raise InputError(f"--format {format}: unknown; {nearest(format, EXPORT_FORMATS)}")
    results = read_sources(sources)
    if format != "published":
        for path in export_tables(results, out, format):
            print(path)
        return
    from statebridge.results.formats import RESULT_FORMATS

    incomplete = [cell.name for cell in results.cells if not cell.complete]
    if incomplete:
        raise ResultError(
            f"cell {incomplete[0]} is incomplete; finish the run first (the same `statebridge "
            "run` command goes on where it stopped)"
        )
    written = RESULT_FORMATS.get(format).write(results, out)
    print(f"{len(written)} files written to {out}")
