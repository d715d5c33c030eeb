"""Tables as Parquet: every column with its type, text unchanged."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq

from statebridge.tables.flat import PlainKind, flat_columns
from statebridge.tables.table import Table

_TYPES: dict[PlainKind, pa.DataType] = {
    "text": pa.string(),
    "boolean": pa.bool_(),
    "integer": pa.int64(),
    "number": pa.float64(),
}


def to_parquet(table: Table) -> bytes:
    """Return the table as the bytes of a Parquet file; title and notes are its metadata."""
    columns = flat_columns(table)
    schema = pa.schema(
        [pa.field(column.name, _TYPES[column.kind]) for column in columns],
        metadata={"title": table.title, "notes": "\n".join(table.notes)},
    )
    arrays = [pa.array(column.values, type=_TYPES[column.kind]) for column in columns]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_arrays(arrays, schema=schema), sink)
    return bytes(sink.getvalue())
