"""Whether the database has changed since it was last asked, for a few microseconds."""

from __future__ import annotations

import sqlite3
from contextlib import suppress

from statebridge_server.store.database import Database

WAIT_SECONDS = 0.05
"""For a lock, which readers of a WAL database hardly ever meet; the event loop stands still."""


class Changes:
    """A number that is another one after every commit, of this process or of any other.

    SQLite keeps such a number for each connection (`PRAGMA data_version`); of other databases
    none is known, and whoever asks must read.
    """

    def __init__(self, database: Database) -> None:
        self._connection: sqlite3.Connection | None = None
        url = database.engine.url
        if url.get_backend_name() == "sqlite" and url.database not in (None, "", ":memory:"):
            with suppress(sqlite3.Error):
                # Never written through: a connection's own commits do not change its number.
                self._connection = sqlite3.connect(
                    str(url.database),
                    timeout=WAIT_SECONDS,
                    isolation_level=None,
                    check_same_thread=False,
                )

    def version(self) -> int | None:
        """Return the number; None where it is not known.

        What is read from the database after this call is at least as new as the number.
        """
        if self._connection is None:
            return None
        try:
            # All rows: a statement that is not at its end would hold its moment of the database.
            ((version,),) = self._connection.execute("PRAGMA data_version").fetchall()
        except sqlite3.Error:
            return None
        return int(version)

    def close(self) -> None:
        """Close the connection; the number is not known from then on."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
