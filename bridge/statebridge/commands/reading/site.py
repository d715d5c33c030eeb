"""`statebridge site`: a static site of results that validation passes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def site(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...", help="Run directories, or folders of them.", show_default=False
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the site.")],
    title: Annotated[str, typer.Option(help="Of its first page.")] = "Results",
    figures: Annotated[bool, typer.Option(help="Draw the figures of the reports.")] = True,
) -> None:
    """Write a site that compares runs by channel, pair and task, each line with its report.

    It takes only runs that `validate` passes, and shows their hashes and versions. The reports
    hold the rows: publish only what may be read.
    """
    from statebridge.pages.site import write_site
    from statebridge.progress import show_progress

    with show_progress(name="site") as show:
        page = write_site(
            runs, out, title=title, figures=figures, begun=lambda _, n, of: show("report", n, of)
        )
    print(page)
