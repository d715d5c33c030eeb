"""Rows of files that have columns: Parquet and Arrow, as data sets are distributed, and CSV."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from statebridge.data.files import PACKED, iter_lines, readable
from statebridge.data.rows import Place
from statebridge.errors import DatasetError

if TYPE_CHECKING:
    import pyarrow

Placed = tuple[Place, dict[str, Any]]


def column_reader(path: Path) -> Callable[[Path], Iterator[Placed]] | None:
    """Return the function that yields (place, fields) of such a file; None for other files."""
    name = path.with_suffix("") if path.suffix in PACKED else path
    return COLUMN_FILES.get(name.suffix)


def _parquet(path: Path) -> Iterator[Placed]:
    """Yield the rows of a Parquet file, streaming.

    Raises:
        DatasetError: The file cannot be read, or is no Parquet file.
    """
    from pyarrow import ArrowInvalid, parquet  # noqa: PLC0415 - slow to load, and seldom needed

    try:
        with readable(path), parquet.ParquetFile(path) as file:
            yield from _numbered(path, file.iter_batches())
    except ArrowInvalid as error:
        raise _damaged(path, "Parquet", error) from None


def _arrow(path: Path) -> Iterator[Placed]:
    """Yield the rows of an Arrow file (Feather 2) or stream, which `datasets` writes.

    Raises:
        DatasetError: The file cannot be read, or is neither.
    """
    from pyarrow import ArrowInvalid, ipc, memory_map  # noqa: PLC0415

    try:
        with readable(path), memory_map(str(path)) as source:
            try:
                file = ipc.open_file(source)
                batches: Iterable[Any] = map(file.get_batch, range(file.num_record_batches))
            except ArrowInvalid:  # it ends without the footer of a file
                source.seek(0)
                batches = ipc.open_stream(source)
            yield from _numbered(path, batches)
    except (ArrowInvalid, OSError) as error:
        raise _damaged(path, "Arrow", error) from None


def _numbered(path: Path, batches: Iterable[pyarrow.RecordBatch]) -> Iterator[Placed]:
    number = 0
    for batch in batches:
        for record in batch.to_pylist():
            number += 1
            yield Place(path, number, "row"), record


def _damaged(path: Path, kind: str, error: Exception) -> DatasetError:
    reason = " ".join(str(error).split())
    return DatasetError(f"{path}: not a whole {kind} file ({reason:.120})")


def iter_csv(path: Path, delimiter: str = ",") -> Iterator[tuple[Place, list[str]]]:
    """Yield the values of each row of a CSV file (RFC 4180), and the line that it begins on.

    Empty lines are left out.

    Raises:
        DatasetError: The file cannot be read, or is not CSV.
    """
    lines = (f"{line}\n" for _, line in iter_lines(path))
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    place = Place(path, 1)
    try:
        for values in reader:
            if values:
                yield place, values
            place = Place(path, reader.line_num + 1)  # a value may hold line ends
    except csv.Error as error:
        raise DatasetError(f"{place}: not CSV: {error}") from None


def _separated(path: Path, delimiter: str) -> Iterator[Placed]:
    """Yield the rows of a CSV file; its first row has the names, all values are text.

    Raises:
        DatasetError: The file cannot be read, or a row has another number of values.
    """
    names: list[str] | None = None
    for place, values in iter_csv(path, delimiter):
        if names is None:
            names = values
            twice = next((name for name in names if names.count(name) > 1), None)
            if twice is not None:
                raise DatasetError(f"{place}: two columns are called {twice!r}; rename one")
            continue
        if len(values) != len(names):
            raise DatasetError(
                f"{place}: has {len(values)} values, but the first row names {len(names)} "
                "columns; put a value that holds the separator in quotation marks"
            )
        yield place, dict(zip(names, values, strict=True))


COLUMN_FILES: Mapping[str, Callable[[Path], Iterator[Placed]]] = MappingProxyType(
    {
        ".parquet": _parquet,
        ".arrow": _arrow,
        ".feather": _arrow,
        ".csv": lambda path: _separated(path, ","),
        ".tsv": lambda path: _separated(path, "\t"),
    }
)
"""By the end of a file's name."""
