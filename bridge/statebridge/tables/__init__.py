"""Tables of results, and their export as Parquet, CSV, LaTeX and Markdown."""

from __future__ import annotations

from statebridge.tables.bits_table import bits_table
from statebridge.tables.capacity_table import capacity_table
from statebridge.tables.comparison_table import comparison_table
from statebridge.tables.formats import (
    EXPORT_FORMATS,
    FORMATS,
    ExportFormat,
    TableFormat,
    export_tables,
    to_csv,
    to_latex,
    to_markdown,
    to_parquet,
    write_table,
)
from statebridge.tables.row_table import row_table
from statebridge.tables.summary_tables import table_one
from statebridge.tables.table import Column, Range, Spread, Table

__all__ = [
    "EXPORT_FORMATS",
    "FORMATS",
    "Column",
    "ExportFormat",
    "Range",
    "Spread",
    "Table",
    "TableFormat",
    "bits_table",
    "capacity_table",
    "comparison_table",
    "export_tables",
    "row_table",
    "table_one",
    "to_csv",
    "to_latex",
    "to_markdown",
    "to_parquet",
    "write_table",
]
