"""Tables of results, and their export as Parquet, CSV, LaTeX and Markdown."""

from __future__ import annotations

from statebridge.tables.comparison_table import comparison_table
from statebridge.tables.condition_table import table_one
from statebridge.tables.csv_format import to_csv
from statebridge.tables.export import FORMATS, write_table
from statebridge.tables.latex_format import to_latex
from statebridge.tables.markdown_format import to_markdown
from statebridge.tables.parquet_format import to_parquet
from statebridge.tables.row_table import row_table
from statebridge.tables.table import Column, Range, Spread, Table

__all__ = [
    "FORMATS",
    "Column",
    "Range",
    "Spread",
    "Table",
    "comparison_table",
    "row_table",
    "table_one",
    "to_csv",
    "to_latex",
    "to_markdown",
    "to_parquet",
    "write_table",
]
