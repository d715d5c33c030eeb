r"""Tables as LaTeX: a `table` float with `booktabs` rules (`\usepackage{booktabs}`)."""

from __future__ import annotations

import re

from statebridge.tables.printed_value import printed_value
from statebridge.tables.table import Table

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
_SPECIAL = re.compile("|".join(map(re.escape, _ESCAPES)) + r"|([-',])(?=\1)")
"""The last alternative: two of these in a row would become another character."""


def escape_latex(text: str) -> str:
    """Return text that LaTeX prints as it is; white space and control characters are spaces."""
    plain = "".join(char if char.isprintable() else " " for char in text)
    text = _SPECIAL.sub(lambda match: _ESCAPES.get(match[0], f"{match[0]}{{}}"), plain)
    text = " ".join(text.split())
    # At the start of a row these two would belong to the end of the row before.
    return f"{{}}{text}" if text.startswith(("[", "*")) else text


def to_latex(table: Table) -> str:
    """Return the printed columns as LaTeX, text to the left, numbers to the right."""
    printed = table.printed
    alignment = "".join("l" if column.kind == "text" else "r" for column in printed.columns)
    lines = [
        r"\begin{table}[htbp]",
        r"\centering",
        rf"\caption{{{escape_latex(' '.join((table.title, *table.notes)))}}}",
        rf"\begin{{tabular}}{{{alignment}}}",
        r"\toprule",
        _row([column.header for column in printed.columns]),
        r"\midrule",
    ]
    for row in printed.rows:
        pairs = zip(printed.columns, row, strict=True)
        lines.append(_row([printed_value(column, value) for column, value in pairs]))
    lines += [r"\bottomrule", r"\end{tabular}", r"\end{table}"]
    return "\n".join(lines) + "\n"


def _row(cells: list[str]) -> str:
    return " & ".join(escape_latex(cell) for cell in cells) + r" \\"
