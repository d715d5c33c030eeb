"""Tables of results on the terminal."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table as RichTable

from statebridge.tables import Table
from statebridge.tables.table import printed_value


def print_table(table: Table, *, leave_out: Iterable[str] = ()) -> None:
    """Print the columns meant for readers, lines as long as they are, notes below."""
    hidden = set(leave_out)
    printed = table.printed
    kept = [i for i, column in enumerate(printed.columns) if column.name not in hidden]
    shown = RichTable(box=None, pad_edge=False, title=table.title, title_justify="left")
    for i in kept:
        column = printed.columns[i]
        justify = "left" if column.kind == "text" else "right"
        shown.add_column(column.header, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    for row in printed.rows:
        shown.add_row(*(printed_value(printed.columns[i], row[i]) for i in kept))
    console = Console(highlight=False, markup=False)
    # A table broken into a narrow terminal's width cannot be read; long lines can.
    terminal, console.width = console.width, 1000
    console.width = max(terminal, console.measure(shown).maximum)
    console.print(shown)
    for note in table.notes:
        print(f"note: {note}")
