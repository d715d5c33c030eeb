"""Tables as GitHub-flavoured Markdown."""

from __future__ import annotations

import re

from statebridge.tables.printed_value import printed_value
from statebridge.tables.table import Column, Table, Value

_SPECIAL = re.compile(r"[\\`*\[\]|~#]|(?<![^\W_])_|_(?![^\W_])")
"""Characters that mean something in a cell. An underscore within a word does not."""
_ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def escape_markdown(text: str) -> str:
    """Return text that Markdown shows as it is; white space and control characters are spaces."""
    plain = "".join(char if char.isprintable() else " " for char in text)
    return _SPECIAL.sub(r"\\\g<0>", " ".join(plain.split())).translate(_ENTITIES)


def to_markdown(table: Table) -> str:
    """Return the printed columns as Markdown, the title above and the notes below."""
    printed = table.printed
    rules = ["---" if column.kind == "text" else "---:" for column in printed.columns]
    lines = [
        f"**{escape_markdown(table.title)}**",
        "",
        _row([escape_markdown(column.header) for column in printed.columns]),
        _row(rules),
    ]
    for row in printed.rows:
        pairs = zip(printed.columns, row, strict=True)
        lines.append(_row([_cell(column, value) for column, value in pairs]))
    for note in table.notes:
        lines += ["", escape_markdown(note)]
    return "\n".join(lines) + "\n"


def _cell(column: Column, value: Value) -> str:
    text = printed_value(column, value)
    return escape_markdown(text) if column.kind == "text" else text


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
