"""Tables of results on the terminal."""

from __future__ import annotations

import json
import re
from collections.abc import Container, Iterable, Sequence
from textwrap import wrap
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.table import Table as RichTable

from statebridge.progress import print_caution

if TYPE_CHECKING:
    from statebridge.records import ResultSet
    from statebridge.results.service_records import DoctorCheck
    from statebridge.run import Run
    from statebridge.scoring import SeedMean
    from statebridge.tables import Table


def print_checks(checks: Iterable[DoctorCheck], as_json: bool) -> None:
    """Print the doctor's findings, each as it comes, or all as JSON.

    Raises:
        typer.Exit: With code 1, if something is missing.
    """
    found = []
    for check in checks:
        found.append(check)
        if not as_json:
            state = "MISSING" if not check.ready else "CAUTION" if check.is_caution else "ready  "
            print(f"{state}  {'' if check.is_caution else check.what:12} {check.detail}")
    if as_json:
        print(json.dumps([check.model_dump() for check in found]))
    if not all(check.ready for check in found):
        raise typer.Exit(1)


def print_scores(run: Run, console: Console, metrics: Sequence[str] | None = None) -> None:
    """Print the means of each condition over measures that have a value.

    ± at the first measure is the sample standard deviation over seeds.

    Args:
        metrics: Names of measures; the task's primary metric and a few more if not given.
    """
    from statebridge.scoring import MEASURES, shown_measures

    measures = shown_measures(run.results()) if metrics is None else metrics
    scores = run.scores(measures)
    shown = [
        (measure, MEASURES[measure].header)
        for measure in measures
        if any(score.means[measure].mean is not None for score in scores)
    ]
    both = len({score.direction for score in scores}) > 1
    rows = [
        [
            f"{score.condition} ({score.direction})" if both else score.condition,
            str(len(score.seeds)),
            "-".join(str(n) for n in sorted(set(score.n_rows))),
            *(_cell(score.means[measure], measure == shown[0][0]) for measure, _ in shown),
        ]
        for score in scores
    ]
    headers = ["condition", "runs", "n", *(title for _, title in shown)]
    _print_whole(headers, {"condition"}, rows, console)


def print_empty_cells(results: ResultSet, console: Console) -> None:
    """Say which cells of a run have no row by their own rule."""
    empty = [
        cell["condition"]["name"]
        for cell in (results.manifest or {}).get("cells", ())
        if cell["rows"] == 0
    ]
    for name in dict.fromkeys(empty):
        console.print(
            f"note: {name} has no rows: no two prompts are of one length", highlight=False
        )


def print_cautions(cautions: Iterable[str]) -> None:
    """Print what limits the results, on standard error."""
    for caution in cautions:
        print_caution(caution)


def _cell(mean: SeedMean, with_sd: bool) -> str:
    if mean.mean is None:
        return "-"
    return f"{mean.mean:.4f}" + (f" ± {mean.sd:.4f}" if with_sd and mean.sd is not None else "")


def print_table(table: Table, *, leave_out: Iterable[str] = ()) -> None:
    """Print the columns meant for readers, lines as long as they are, notes below."""
    from statebridge.tables.table import printed_value

    hidden = set(leave_out)
    printed = table.printed
    kept = [i for i, column in enumerate(printed.columns) if column.name not in hidden]
    columns = [printed.columns[i] for i in kept]
    rows = [[printed_value(printed.columns[i], row[i]) for i in kept] for row in printed.rows]
    _print_whole(
        [column.header for column in columns],
        {column.header for column in columns if column.kind == "text"},
        rows,
        Console(highlight=False, markup=False),
        table.title,
    )
    for note in table.notes:
        print(f"note: {note}")


def _print_whole(
    headers: Sequence[str],
    left: Container[str],
    rows: Sequence[Sequence[str]],
    console: Console,
    title: str | None = None,
) -> None:
    """Print a table as wide as its cells are; headers are folded to that width."""
    table = RichTable(box=None, pad_edge=False, title=title, title_justify="left")
    for place, header in enumerate(headers):
        words = re.split(r"[\s-]", header)
        width = max(len(text) for text in (*words, *(row[place] for row in rows)))
        table.add_column(
            "\n".join(wrap(header, width + 1)),  # a hyphen stays behind the word before it
            justify="left" if header in left else "right",
            vertical="bottom",
            no_wrap=True,
        )
    for row in rows:
        table.add_row(*row)
    # A cell broken into a narrow terminal's width cannot be read; a long line can.
    terminal, console.width = console.width, 1000
    console.width = max(terminal, console.measure(table).maximum)
    console.print(table, crop=False)
