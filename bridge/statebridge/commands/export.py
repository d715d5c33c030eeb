"""`statebridge export`: a run as published result files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from statebridge.commands.options import Sources
from statebridge.errors import InputError, ResultError, nearest

FORMATS = ("published",)


def export(
    sources: Sources,
    out: Annotated[Path, typer.Option(help="Folder for the files.")],
    format: Annotated[str, typer.Option(help="published: one h1_*.json per cell.")] = "published",
) -> None:
    """Write results in another format; `published` is that of arXiv 2606.03280."""
    if format not in FORMATS:
        raise InputError(f"--format {format}: unknown; {nearest(format, FORMATS)}")
    from statebridge.results.published_export import export_published
    from statebridge.results.sources import read_sources

    results = read_sources(sources)
    incomplete = [cell.name for cell in results.cells if not cell.complete]
    if incomplete:
        raise ResultError(
            f"cell {incomplete[0]} is incomplete; finish the run first (the same `statebridge "
            "run` command goes on where it stopped)"
        )
    written = export_published(results, out)
    print(f"{len(written)} files written to {out}")
