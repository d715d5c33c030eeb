"""Writing reports: on a run and on a layer search."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, Unpack, get_args

from markupsafe import Markup

from statebridge.data.files import atomic_writer, make_folder
from statebridge.errors import ResultError
from statebridge.figures import Drawing, save_figure
from statebridge.figures.drawing import FORMATS, figure_bytes
from statebridge.records import ResultSet
from statebridge.report.content import ReportContent, ReportParts, gather, silent
from statebridge.report.layer_search import LayerSearchContent, gather_layer_search
from statebridge.report.page.environment import asset, data_url, page_environment, page_policy
from statebridge.report.page.html import html_report
from statebridge.report.page.markdown import (
    fenced,
    figure_parts,
    list_parts,
    markdown_report,
    table_parts,
)
from statebridge.results.layer_search import LayerSearchResults
from statebridge.stats import Settings
from statebridge.tables import write_table
from statebridge.tables.formats import escape_markdown

Format = Literal["html", "md"]


def write_report(
    results: ResultSet,
    out: str | Path,
    *,
    formats: Sequence[Format] = ("html", "md"),
    figure_formats: Sequence[str] = (),
    **parts: Unpack[ReportParts],
) -> list[Path]:
    """Write `report.html` (all in one file) and `report.md` with `figures/` into a folder.

    The same results and arguments give the same bytes.

    Args:
        results: What to report.
        out: The folder; made if needed.
        formats: `html`, `md` or both.
        figure_formats: `pdf`, `png` or both: formats in which figures are saved beside SVG, which
            takes about a second each.
        parts: See `statebridge.report.content.ReportParts`: what the caller has already
            (comparison, validation, audit, ...), the title, and whether to draw figures.

    Returns:
        The files written, reports first.

    Raises:
        ResultError: An unknown format, no row to report, a dataset of other rows, or results
            that cannot be scored or compared.
        EnvironmentFault: The folder or a file cannot be written.
    """
    _check_formats(formats, figure_formats)
    content = gather(results, **parts)
    progress = parts.get("progress", silent)
    return write_content(content, out, formats, figure_formats, progress)


def _check_formats(formats: Sequence[Format], figure_formats: Sequence[str]) -> None:
    for name in formats:
        if name not in get_args(Format):
            raise ResultError(f"unknown report format {name!r}; known: html, md")
    unknown = [name for name in figure_formats if name not in FORMATS]
    if unknown:
        raise ResultError(f"unknown figure format {unknown[0]!r}; known: {', '.join(FORMATS)}")
    if not formats:
        raise ResultError("no report format was given; known: html, md")


def write_content(
    content: ReportContent,
    out: str | Path,
    formats: Sequence[Format],
    figure_formats: Sequence[str] = (),
    progress: Callable[[str, int, int], None] = silent,
) -> list[Path]:
    """Write a report that is worked out already; as `write_report`, which see."""
    out = Path(out)
    make_folder(out)
    pictures = {}
    for done, drawing in enumerate(content.drawings, start=1):
        pictures[drawing.name] = figure_bytes(drawing, "svg")
        progress("draw", done, len(content.drawings))
    reports, files = [], []
    if "html" in formats:
        reports.append(written(out / "report.html", html_report(content, pictures)))
    if "md" in formats:
        files += write_figures(content.drawings, pictures, out / "figures", figure_formats)
        images = {drawing.name: f"figures/{drawing.name}.svg" for drawing in content.drawings}
        reports.append(written(out / "report.md", markdown_report(content, images)))
    return reports + files


def write_figures(
    drawings: Sequence[Drawing],
    pictures: Mapping[str, bytes],
    folder: Path,
    also: Sequence[str] = (),
) -> list[Path]:
    """Write figures as SVG (the pictures, by name), `also` in other formats; return the files."""
    make_folder(folder)
    files = []
    for drawing in drawings:
        files.append(written(folder / f"{drawing.name}.svg", pictures[drawing.name]))
        if also:
            files += save_figure(drawing, folder / drawing.name, formats=tuple(also))
    return files


def written(path: Path, content: bytes) -> Path:
    """Write a file, whole or not at all, and return its path."""
    with atomic_writer(path) as stream:
        stream.write(content)
    return path


def write_layer_search_report(
    search: LayerSearchResults,
    out: str | Path,
    *,
    settings: Settings | None = None,
    title: str | None = None,
    command: str | None = None,
    figures: bool = True,
    figure_formats: Sequence[str] = (),
) -> list[Path]:
    """Write `report.html`, `report.md`, `cells.csv` and `figures/` on a layer search into a folder.

    Args:
        search: What to report.
        out: The folder; made if needed.
        settings: Of the comparison on the reporting rows.
        title: Of the report.
        command: The command line that makes this report, shown under "How to reproduce".
        figures: False leaves them out.
        figure_formats: `pdf`, `png` or both, beside SVG.

    Returns:
        The files written, reports first.

    Raises:
        ResultError: Results that cannot be scored or compared.
        EnvironmentFault: The folder or a file cannot be written.
    """
    content = gather_layer_search(
        search, settings=settings, title=title, command=command, figures=figures
    )
    out = Path(out)
    make_folder(out)
    pictures = {drawing.name: figure_bytes(drawing, "svg") for drawing in content.drawings}
    files = (
        write_figures(content.drawings, pictures, out / "figures", figure_formats)
        if pictures
        else []
    )
    return [
        written(out / "report.html", _html(content, pictures)),
        written(out / "report.md", _markdown(content)),
        write_table(content.cells, out / "cells.csv"),
        *files,
    ]


def _html(content: LayerSearchContent, pictures: Mapping[str, bytes]) -> bytes:
    style, script = asset("base.css") + asset("report.css"), asset("page.js")
    page = page_environment().get_template("layer_search.html.jinja")
    text = page.render(
        page=content,
        policy=page_policy(style, script),
        images=[data_url(pictures[drawing.name]) for drawing in content.drawings],
        # The package's own.
        style=Markup(style),  # noqa: S704
        script=Markup(script),  # noqa: S704
    )
    return text.encode("utf-8", "backslashreplace")


def _markdown(content: LayerSearchContent) -> bytes:
    images = {drawing.name: f"figures/{drawing.name}.svg" for drawing in content.drawings}
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
