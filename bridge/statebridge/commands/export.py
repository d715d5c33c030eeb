"""`statebridge export`: results as published files or as a table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from statebridge.commands.options import Sources
from statebridge.errors import InputError, ResultError, nearest

FORMATS = ("published", "parquet", "csv", "latex", "markdown")
_ENDINGS = {"parquet": ".parquet", "csv": ".csv", "latex": ".tex", "markdown": ".md"}


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
    if format not in FORMATS:
        raise InputError(f"--format {format}: unknown; {nearest(format, FORMATS)}")
    from statebridge.results.sources import read_sources

    results = read_sources(sources)
    if format != "published":
        from statebridge.tables import row_table, table_one, write_table

        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{out}: cannot be made: {error.strerror}") from None
        tables = {"conditions": table_one(results)}
        if format in ("parquet", "csv"):  # rows by the thousand are no page to read
            tables["rows"] = row_table(results)
        for name, table in tables.items():
            print(write_table(table, out / f"{name}{_ENDINGS[format]}"))
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
