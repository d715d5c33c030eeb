"""Rows of a run: one by one, or as a table of another library."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

from statebridge.errors import EnvironmentFault, ResultError, nearest
from statebridge.tables.formats import to_parquet
from statebridge.tables.row_table import row_table

if TYPE_CHECKING:
    import pandas  # type: ignore[import-untyped,import-not-found,unused-ignore]
    import polars  # type: ignore[import-untyped,import-not-found,unused-ignore]
    import pyarrow

    from statebridge.records import LaneResult, ResultSet


class Rows:
    """Rows in their cells, read once; iterating gives `LaneResult` after `LaneResult`.

    The tables have a line for each row and cell: `direction`, `condition`, `seed`, `row_id`,
    the scores, every measurement, and `data_...` for the fields of the dataset.
    """

    def __init__(self, results: ResultSet) -> None:
        self.results = results
        """Cells of the rows, with the dataset and the manifest."""

    def __iter__(self) -> Iterator[LaneResult]:
        """Yield the rows cell by cell, in the order of the dataset."""
        for cell in self.results.cells:
            yield from cell.lanes

    def __len__(self) -> int:
        """Return the number of rows, each counted in every cell."""
        return sum(len(cell.lanes) for cell in self.results.cells)

    def __repr__(self) -> str:
        return f"<Rows: {len(self)} in {len(self.results.cells)} cells>"

    def to_arrow(self) -> pyarrow.Table:
        """Return a `pyarrow.Table`."""
        import pyarrow.parquet as pq  # noqa: PLC0415 - slow to load

        return pq.read_table(io.BytesIO(to_parquet(row_table(self.results))))

    def to_pandas(self) -> pandas.DataFrame:
        """Return a `pandas.DataFrame`.

        Raises:
            EnvironmentFault: pandas is not installed.
        """
        _need("pandas")
        frame: pandas.DataFrame = self.to_arrow().to_pandas()
        return frame

    def to_polars(self) -> polars.DataFrame:
        """Return a `polars.DataFrame`.

        Raises:
            EnvironmentFault: polars is not installed.
        """
        frame: polars.DataFrame = _need("polars").from_arrow(self.to_arrow())
        return frame


def chosen_rows(
    results: ResultSet, conditions: Sequence[str] | None, seeds: Sequence[int] | None
) -> Rows:
    """Return the rows of some conditions and seeds; of all where None is given.

    Raises:
        ResultError: An unknown condition or seed.
    """
    known = {cell.condition.name for cell in results.cells}
    for name in conditions or ():
        if name not in known:
            raise ResultError(f"conditions: {name!r} is not in the results; {nearest(name, known)}")
    found = {cell.seed for cell in results.cells if cell.seed is not None}
    for seed in seeds or ():
        if seed not in found:
            listed = ", ".join(map(str, sorted(found)))
            raise ResultError(f"seeds: {seed} is not in the results; known: {listed}")
    cells = [
        cell
        for cell in results.cells
        if (conditions is None or cell.condition.name in conditions)
        and (seeds is None or cell.seed in seeds)
    ]
    return Rows(replace(results, cells=cells))


def _need(library: str) -> Any:
    try:
        return import_module(library)
    except ImportError:
        raise EnvironmentFault(
            f"{library} is not installed; `pip install {library}`, or take to_arrow()"
        ) from None
