"""Lanes that the runs of one layer search share, in an SQLite file in its directory.

The receiver alone and a text relay give the same lanes at every pair of layers; noise, zero
states and the receiver's own states give the same lanes at every layer of the sender.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from statebridge.errors import EnvironmentFault
from statebridge.runs.stores import FoundLane, LaneKey


class SearchLanes:
    """A `statebridge.runs.stores.LaneStore` of one run of a layer search."""

    def __init__(self, file: Path, run: str) -> None:
        """Take the file, made if needed, and the name of the run whose lanes are recorded."""
        self._file, self._run = file, run
        with self._open() as database:
            database.execute(
                "CREATE TABLE IF NOT EXISTS lanes (key BLOB PRIMARY KEY, line BLOB, run TEXT)"
            )

    def lookup(self, keys: Sequence[LaneKey]) -> Mapping[LaneKey, FoundLane]:
        """Return the lanes that are stored under these keys."""
        query = "SELECT line, run FROM lanes WHERE key = ?"
        with self._open() as database:
            found = {key: database.execute(query, (key,)).fetchone() for key in keys}
        return {key: FoundLane(*lane) for key, lane in found.items() if lane is not None}

    def record(self, lanes: Mapping[LaneKey, bytes]) -> None:
        """Store committed lines by key; a key that is there already keeps its line."""
        rows = [(key, line, self._run) for key, line in lanes.items()]
        with self._open() as database:
            database.executemany("INSERT OR IGNORE INTO lanes VALUES (?, ?, ?)", rows)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """Open the file for one transaction."""
        try:
            with closing(sqlite3.connect(self._file)) as database, database:
                yield database
        except sqlite3.Error as error:
            raise EnvironmentFault(
                f"{self._file}: cannot be used: {error}; make room or delete the file, and start "
                "the same command again"
            ) from None
