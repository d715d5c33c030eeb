"""Rows of Parquet files, as data sets are distributed on the hub."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from statebridge.data.files import readable
from statebridge.data.rows import Place
from statebridge.errors import DatasetError

PARQUET = ".parquet"
"""End of such a file's name."""


def iter_parquet(path: Path) -> Iterator[tuple[Place, dict[str, Any]]]:
    """Yield (place, fields) for each row of a Parquet file, streaming.

    Raises:
        DatasetError: The file cannot be read, or is no Parquet file.
    """
    import pyarrow as arrow  # noqa: PLC0415 - slow to load, and seldom needed
    from pyarrow import parquet  # noqa: PLC0415

    number = 0
    try:
        with readable(path), parquet.ParquetFile(path) as file:
            for batch in file.iter_batches():
                for record in batch.to_pylist():
                    number += 1
                    yield Place(path, number, "row"), record
    except arrow.ArrowInvalid as error:
        reason = " ".join(str(error).split())
        raise DatasetError(f"{path}: not a whole Parquet file ({reason:.120})") from None
