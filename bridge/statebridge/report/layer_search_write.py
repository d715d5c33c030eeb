"""Writing the report on a sweep."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from markupsafe import Markup

from statebridge.figures.drawing import figure_bytes
from statebridge.report.html import asset, data_url, page_environment, page_policy
from statebridge.report.layer_search_content import SweepContent, gather_sweep
from statebridge.report.markdown import fenced, figure_parts, list_parts, table_parts
from statebridge.report.write import make_folder, write_figures, written
from statebridge.results.layer_search import SweepResults
from statebridge.stats import Settings
from statebridge.tables import write_table
from statebridge.tables.formats import escape_markdown


def write_sweep_report(
    sweep: SweepResults,
    out: str | Path,
    *,
    settings: Settings | None = None,
    title: str | None = None,
    command: str | None = None,
    figures: bool = True,
) -> list[Path]:
    """Write `report.html`, `report.md`, `cells.csv` and `figures/` on a sweep into a folder.

    Args:
        sweep: What to report.
        out: The folder; made if needed.
        settings: Of the comparison on the reporting rows.
        title: Of the report.
        command: The command line that makes this report, shown under "How to reproduce".
        figures: False leaves them out.

    Returns:
        The files written, reports first.

    Raises:
        ResultError: Results that cannot be scored or compared.
        EnvironmentFault: The folder or a file cannot be written.
    """
    content = gather_sweep(sweep, settings=settings, title=title, command=command, figures=figures)
    out = Path(out)
    make_folder(out)
    pictures = {drawing.name: figure_bytes(drawing, "svg") for drawing in content.drawings}
    files = write_figures(content.drawings, pictures, out / "figures") if pictures else []
    return [
        written(out / "report.html", _html(content, pictures)),
        written(out / "report.md", _markdown(content)),
        write_table(content.cells, out / "cells.csv"),
        *files,
    ]


def _html(content: SweepContent, pictures: Mapping[str, bytes]) -> bytes:
    style = asset("page.css")
    page = page_environment().get_template("sweep.html.jinja")
    text = page.render(
        page=content,
        policy=page_policy(style, ""),
        images=[data_url(pictures[drawing.name]) for drawing in content.drawings],
        style=Markup(style),  # noqa: S704 - the package's own
    )
    return text.encode("utf-8", "backslashreplace")


def _markdown(content: SweepContent) -> bytes:
    images = {drawing.name: f"figures/{drawing.name}.png" for drawing in content.drawings}
    parts = [
        f"# {escape_markdown(content.title)}",
        escape_markdown(content.subtitle),
        "## The choice",
        f"**{escape_markdown(content.headline)}**",
        *list_parts(content.findings),
        "### How firm the choice is",
        *list_parts(content.firmness),
        *figure_parts(content.drawings, content.not_drawn, images),
        "## On the rows reported on",
    ]
    for view in content.differences:
        parts += table_parts(view)
    if content.notes:
        parts += ["### Notes on the comparison", *list_parts(content.notes)]
    parts += ["## Cells", *table_parts(content.highest)]
    parts += [
        "## How to reproduce",
        "Save the experiment below as `experiment.json`, then:",
        fenced("\n".join(content.steps)),
        fenced(content.experiment_json, "json"),
    ]
    return ("\n\n".join(parts) + "\n").encode("utf-8", "backslashreplace")
