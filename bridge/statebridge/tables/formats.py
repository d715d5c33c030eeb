"""The formats that tables are written in: Parquet, CSV, LaTeX and Markdown.

Parquet and CSV (RFC 4180) hold plain columns for programs: one value a cell, every digit, a
spread as `name` and `name_sd`, a range as `name_low` and `name_high`. LaTeX and Markdown show the
printed columns, the title above and the notes below.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from statebridge.data.files import atomic_writer, make_folder
from statebridge.data.spreadsheet_text import guarded
from statebridge.errors import ResultError, nearest
from statebridge.records import ResultSet
from statebridge.tables.row_table import row_table
from statebridge.tables.summary_tables import table_one
from statebridge.tables.table import Column, Range, Spread, Table, Value, printed_value

PlainValue = str | bool | int | float | None
PlainKind = Literal["text", "boolean", "integer", "number"]


@dataclass(frozen=True, slots=True)
class PlainColumn:
    """One column of plain values."""

    name: str
    kind: PlainKind
    values: list[PlainValue]


def flat_columns(table: Table) -> list[PlainColumn]:
    """Return the table's columns as plain ones."""
    columns: list[PlainColumn] = []
    for index, column in enumerate(table.columns):
        values = [row[index] for row in table.rows]
        if column.kind == "spread":
            columns += _parts((column.name, f"{column.name}_sd"), values)
        elif column.kind == "range":
            columns += _parts((f"{column.name}_low", f"{column.name}_high"), values)
        else:
            columns.append(PlainColumn(column.name, column.kind, [_plain(v) for v in values]))
    return columns


def _parts(names: tuple[str, str], values: Sequence[Value]) -> list[PlainColumn]:
    pairs = [value if isinstance(value, Spread | Range) else (None, None) for value in values]
    return [
        PlainColumn(name, "number", [pair[place] for pair in pairs])
        for place, name in enumerate(names)
    ]


def _plain(value: Value) -> PlainValue:
    if isinstance(value, Spread | Range):  # a table holds them in columns of their own kind only
        raise TypeError(value)
    if isinstance(value, str):
        # JSON can smuggle in half a character, which no file format can hold.
        return value.encode("utf-8", "replace").decode("utf-8")
    return value


def to_csv(table: Table) -> str:
    """Return the table as CSV, with a header of column names and CR LF line ends.

    Text that a spreadsheet program could take for a formula has an apostrophe in front
    (`statebridge.data.spreadsheet_text`); true and false are `true` and `false`.
    """
    columns = flat_columns(table)
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow([column.name for column in columns])
    for values in zip(*(column.values for column in columns), strict=True):
        writer.writerow([_csv_cell(value) for value in values])
    return text.getvalue()


def _csv_cell(value: PlainValue) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    # repr gives the shortest text that reads back as the same number.
    return guarded(value) if isinstance(value, str) else repr(value)


def to_parquet(table: Table) -> bytes:
    """Return the table as the bytes of a Parquet file, text unchanged, every column with its type.

    Title and notes are the file's metadata.
    """
    import pyarrow as pa  # noqa: PLC0415 - slow to load
    import pyarrow.parquet as pq  # noqa: PLC0415

    types: dict[PlainKind, pa.DataType] = {
        "text": pa.string(),
        "boolean": pa.bool_(),
        "integer": pa.int64(),
        "number": pa.float64(),
    }
    columns = flat_columns(table)
    schema = pa.schema(
        [pa.field(column.name, types[column.kind]) for column in columns],
        metadata={"title": table.title, "notes": "\n".join(table.notes)},
    )
    arrays = [pa.array(column.values, type=types[column.kind]) for column in columns]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_arrays(arrays, schema=schema), sink)
    return bytes(sink.getvalue())


_ESCAPES = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "±": r"$\pm$",
    "−": "$-$",
    "–": "--",
    "×": r"$\times$",
    "α": r"$\alpha$",
    "`": r"\textasciigrave{}",
}
_LATEX_SPECIAL = re.compile("|".join(map(re.escape, _ESCAPES)) + r"|([-',])(?=\1)")
"""The last alternative: two of these in a row would become another character."""


def escape_latex(text: str) -> str:
    """Return text that LaTeX prints as it is; white space and control characters are spaces."""
    plain = "".join(char if char.isprintable() else " " for char in text)
    text = _LATEX_SPECIAL.sub(lambda match: _ESCAPES.get(match[0], f"{match[0]}{{}}"), plain)
    text = " ".join(text.split())
    # At the start of a row these two would belong to the end of the row before.
    return f"{{}}{text}" if text.startswith(("[", "*")) else text


def to_latex(table: Table) -> str:
    r"""Return the printed columns as a LaTeX `table` float, text to the left, numbers to the right.

    Its rules need `\usepackage{booktabs}`.
    """
    printed = table.printed
    alignment = "".join("l" if column.kind == "text" else "r" for column in printed.columns)
    lines = [
        r"\begin{table}[htbp]",
        r"\centering",
        rf"\caption{{{escape_latex(' '.join((table.title, *table.notes)))}}}",
        rf"\begin{{tabular}}{{{alignment}}}",
        r"\toprule",
        _latex_row([column.header for column in printed.columns]),
        r"\midrule",
    ]
    for row in printed.rows:
        pairs = zip(printed.columns, row, strict=True)
        lines.append(_latex_row([printed_value(column, value) for column, value in pairs]))
    lines += [r"\bottomrule", r"\end{tabular}", r"\end{table}"]
    return "\n".join(lines) + "\n"


def _latex_row(cells: list[str]) -> str:
    return " & ".join(escape_latex(cell) for cell in cells) + r" \\"


_MARKDOWN_SPECIAL = re.compile(r"[\\`*\[\]|~#]|(?<![^\W_])_|_(?![^\W_])")
"""Characters that mean something in a cell. An underscore within a word does not."""
_ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def escape_markdown(text: str) -> str:
    """Return text that Markdown shows as it is; white space and control characters are spaces."""
    plain = "".join(char if char.isprintable() else " " for char in text)
    return _MARKDOWN_SPECIAL.sub(r"\\\g<0>", " ".join(plain.split())).translate(_ENTITIES)


def to_markdown(table: Table) -> str:
    """Return the printed columns as Markdown, the title above and the notes below."""
    printed = table.printed
    rules = ["---" if column.kind == "text" else "---:" for column in printed.columns]
    lines = [
        f"**{escape_markdown(table.title)}**",
        "",
        _markdown_row([escape_markdown(column.header) for column in printed.columns]),
        _markdown_row(rules),
    ]
    for row in printed.rows:
        pairs = zip(printed.columns, row, strict=True)
        lines.append(_markdown_row([_markdown_cell(column, value) for column, value in pairs]))
    for note in table.notes:
        lines += ["", escape_markdown(note)]
    return "\n".join(lines) + "\n"


def _markdown_cell(column: Column, value: Value) -> str:
    text = printed_value(column, value)
    return escape_markdown(text) if column.kind == "text" else text


def _markdown_row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def to_html(table: Table, *, title: bool = False) -> str:
    """Return the printed columns as an HTML table, its notes below, for a notebook."""
    printed = table.printed
    head = "".join(f"<th>{escape(column.header)}</th>" for column in printed.columns)
    body = "".join(
        "<tr>"
        + "".join(
            f'<td style="text-align:{"left" if column.kind == "text" else "right"}">'
            f"{escape(printed_value(column, value))}</td>"
            for column, value in zip(printed.columns, row, strict=True)
        )
        + "</tr>"
        for row in printed.rows
    )
    caption = f"<div><b>{escape(table.title)}</b></div>" if title else ""
    notes = "".join(f"<div>{escape(note)}</div>" for note in table.notes)
    return f"{caption}<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{notes}"


def _utf8(write: Callable[[Table], str]) -> Callable[[Table], bytes]:
    return lambda table: write(table).encode("utf-8", "replace")


FORMATS: Mapping[str, Callable[[Table], bytes]] = MappingProxyType(
    {
        ".parquet": to_parquet,
        ".csv": _utf8(to_csv),
        ".tex": _utf8(to_latex),
        ".md": _utf8(to_markdown),
    }
)
"""File ending to what writes it."""


TableFormat = Literal["parquet", "csv", "latex", "markdown"]
ExportFormat = Literal["published", TableFormat]
EXPORT_FORMATS: tuple[ExportFormat, ...] = ("published", "parquet", "csv", "latex", "markdown")
"""Formats in which results are exported: published result files, or tables."""
ENDINGS: Mapping[TableFormat, str] = MappingProxyType(
    {"parquet": ".parquet", "csv": ".csv", "latex": ".tex", "markdown": ".md"}
)


def write_table(table: Table, path: str | Path) -> Path:
    """Write a table as `.parquet`, `.csv`, `.tex` or `.md`, and return the path.

    Raises:
        ResultError: The path has another ending.
        EnvironmentFault: The file cannot be written.
    """
    path = Path(path)
    write = FORMATS.get(path.suffix.lower())
    if write is None:
        raise ResultError(
            f"{path}: no table format has the ending {path.suffix!r}; "
            f"{nearest(path.suffix.lower(), FORMATS)}"
        )
    content = write(table)
    with atomic_writer(path) as stream:
        stream.write(content)
    return path


def export_tables(results: ResultSet, folder: str | Path, format: TableFormat) -> list[Path]:
    """Write the scores by condition and, for programs, the rows into a folder; return the files.

    Raises:
        ResultError: Results that cannot be scored.
        EnvironmentFault: The folder or a file cannot be written.
    """
    folder = Path(folder)
    make_folder(folder)
    tables = {"conditions": table_one(results)}
    if format in ("parquet", "csv"):  # rows by the thousand are no page to read
        tables["rows"] = row_table(results)
    return [
        write_table(table, folder / f"{name}{ENDINGS[format]}") for name, table in tables.items()
    ]
