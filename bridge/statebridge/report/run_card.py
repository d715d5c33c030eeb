"""A run in short: a table of scores for a notebook, the verdict as text, the report as one page."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from statebridge.data.files import make_folder
from statebridge.records import ResultSet
from statebridge.report.report_files import write_report, written
from statebridge.report.sections.comparison import score_view
from statebridge.report.sections.splits import judged_rows, split_verdicts
from statebridge.report.words.positive_control import positive_control_views
from statebridge.stats import compare
from statebridge.tables.formats import to_html


def run_card(results: ResultSet) -> str:
    """Return an HTML fragment: what ran, how far it is, and every condition's scores."""
    facts = "".join(f"<div>{escape(fact)}</div>" for fact in _facts(results))
    if not any(cell.lanes for cell in results.cells):
        return f'<div class="statebridge-run">{facts}</div>'
    return f'<div class="statebridge-run">{facts}{to_html(score_view(results))}</div>'


def _facts(results: ResultSet) -> list[str]:
    rows = sum(len(cell.lanes) for cell in results.cells)
    manifest = results.manifest
    if manifest is None:
        return [f"{len(results.cells)} cells, {rows} rows"]
    planned = sum(manifest["plan"]["lanes"])
    dataset = manifest["dataset"]
    return [
        f"{manifest['experiment']['name']}, {manifest.get('created_at', '')[:10]}: "
        f"{rows} of {planned} lanes in {len(results.cells)} cells",
        f"{_side(manifest['pair']['sender'])} to {_side(manifest['pair']['receiver'])}",
        f"dataset: {dataset['rows']} rows, SHA-256 {dataset['sha256'][:12]}…",
    ]


def _side(side: Mapping[str, Any]) -> str:
    return f"{side['model']} (layer {side['layer']} of {side['blocks']})"


def verdict_text(results: ResultSet) -> str:
    """Return the verdict in words: headline, findings and cautions of each setting.

    Raises:
        ResultError: There is no row.
    """
    blocks = []
    for verdict in split_verdicts(results, judged_rows(results, compare(results))):
        lines = [verdict.setting] if verdict.setting else []
        lines += [verdict.headline, *(f"- {finding}" for finding in verdict.findings)]
        lines += [f"caution: {caution}" for caution in verdict.cautions]
        blocks.append("\n".join(lines))
    if results.positive_control is not None:
        blocks += [view.headline for view in positive_control_views(results)]
    return "\n\n".join(blocks)


def write_page(results: ResultSet, path: str | Path, title: str | None) -> Path:
    """Write the report as one HTML file, `report.html` where the path is a folder.

    Raises:
        ResultError: There is no row to report.
        EnvironmentFault: The file cannot be written.
    """
    path = Path(path)
    file = path / "report.html" if path.is_dir() else path
    make_folder(file.parent)
    with tempfile.TemporaryDirectory() as folder:
        (page,) = write_report(results, folder, formats=("html",), title=title)
        return written(file, page.read_bytes())
