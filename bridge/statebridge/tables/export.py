"""Writing a table to a file, in the format that its name asks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from statebridge.data.files import atomic_writer
from statebridge.errors import ResultError, nearest
from statebridge.tables.csv_format import to_csv
from statebridge.tables.latex_format import to_latex
from statebridge.tables.markdown_format import to_markdown
from statebridge.tables.parquet_format import to_parquet
from statebridge.tables.table import Table


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
