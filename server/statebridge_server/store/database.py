"""The database: sessions to read and to write, its version, and the upgrade of its tables."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect, make_url, select, text
from sqlalchemy.exc import ArgumentError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session

from statebridge.errors import EnvironmentFault, InputError
from statebridge_server.store.tables import SCHEMA, Base, Job, SchemaVersion

DATABASE_TROUBLE = (OperationalError, InterfaceError, PoolTimeoutError)
"""Errors of a database that is unreachable, locked for too long, or full."""

_NO_ROOM = frozenset({errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)})

_SETTING_UP = {"number": 0x57A7EB2D}
"""Number of the advisory lock for the upgrade; any number would do."""

BUSY_SECONDS = 30.0
"""Longest wait of a writer for another one."""

VERSION_SECONDS = 0.05
"""Longest wait for a lock when the version is read; readers in WAL mode hardly ever meet one."""


class Database:
    """Any SQLAlchemy database; SQLite is put into WAL mode."""

    def __init__(self, url: str) -> None:
        """Open the database and create or upgrade its tables.

        Raises:
            InputError: The URL is wrong, or its driver is not installed.
            EnvironmentFault: The database cannot be reached, or has tables of another version.
        """
        self._observer: sqlite3.Connection | None = None
        try:
            parsed = make_url(url)
            sqlite = parsed.get_backend_name() == "sqlite"
            arguments = {"timeout": BUSY_SECONDS, "check_same_thread": False} if sqlite else {}
            self.engine = create_engine(
                parsed, connect_args=arguments, pool_pre_ping=not sqlite, pool_size=20
            )
        except (ArgumentError, ImportError) as error:
            raise InputError(f"database_url: {' '.join(str(error).split())}") from None
        if sqlite:
            _prepare_sqlite(self.engine)
        self._writing = self.engine.execution_options(statebridge_writes=True)
        try:
            with self.write() as session:
                if self.engine.dialect.name == "postgresql":
                    # Before there is a table to lock, this keeps a second process out.
                    session.execute(text("SELECT pg_advisory_xact_lock(:number)"), _SETTING_UP)
                tables = [Base.metadata.tables[SchemaVersion.__tablename__]]
                Base.metadata.create_all(session.connection(), tables)
                version = _upgrade(session)
        except SQLAlchemyError as error:
            self.close()
            shown = parsed.render_as_string(hide_password=True)
            raise EnvironmentFault(
                f"database {shown} cannot be used: {' '.join(str(error).split())[:300]}"
            ) from None
        if version != SCHEMA:
            self.close()
            raise EnvironmentFault(
                f"the database has tables of version {version}, this server needs {SCHEMA}; run "
                "the server version that wrote it, or restore a backup"
            )

    @contextmanager
    def read(self) -> Iterator[Session]:
        """Open a session that sees one state of the database."""
        with Session(self.engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """Open a session that commits when the block ends, and rolls back on an error."""
        with Session(self._writing, expire_on_commit=False) as session, session.begin():
            yield session

    def version(self) -> int | None:
        """Return a number that changes with every commit, of this process or another one.

        It costs a few microseconds with SQLite, which counts commits (`PRAGMA data_version`). It
        is None where the database has no such count. A read that begins after this call is at
        least as new as the number. Call it from one thread.
        """
        try:
            if self._observer is None:
                self._observer = self._observing_connection()
            if self._observer is None:
                return None
            # All rows: an unfinished statement would keep a snapshot of the database open.
            ((version,),) = self._observer.execute("PRAGMA data_version").fetchall()
        except sqlite3.Error:
            return None
        return int(version)

    def _observing_connection(self) -> sqlite3.Connection | None:
        """Open a connection that never writes, since its own commits do not change its count."""
        url = self.engine.url
        if url.get_backend_name() != "sqlite" or url.database in (None, "", ":memory:"):
            return None
        return sqlite3.connect(
            str(url.database),
            timeout=VERSION_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )

    def close(self) -> None:
        """Close all connections."""
        if self._observer is not None:
            self._observer.close()
        self.engine.dispose()


def _prepare_sqlite(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def _connected(connection: Any, _record: Any) -> None:
        # The driver must not begin transactions by itself: `_begin` does.
        connection.isolation_level = None
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # SQLite refuses at once a transaction that reads first and writes later if another one has
        # written in between, whatever the timeout; so a writer takes the lock at the start.
        writes = connection.get_execution_options().get("statebridge_writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _upgrade(session: Session) -> int:
    """Create or upgrade the tables; return their version, which may be an unknown one.

    The table of the version must exist. If several processes open one database, one does the
    upgrade and the others wait.
    """
    found = session.scalar(select(SchemaVersion).with_for_update())
    if found is None:
        session.add(SchemaVersion(version=SCHEMA))
        session.flush()
        Base.metadata.create_all(session.connection())
        return SCHEMA
    if found.version in (2, 3, 4):
        # Version 4 added the tables of corpora. Version 5 stores lanes; before, their table held
        # places in the files of runs. Lanes are a cache, so the old table is dropped.
        session.execute(text("DROP TABLE IF EXISTS lanes"))
        Base.metadata.create_all(session.connection())
        found.version = 5
    if found.version == 5:
        # From version 3 to 5 a job stated which of several workers had taken it.
        columns = inspect(session.connection()).get_columns(Job.__tablename__)
        if any(column["name"] == "slot" for column in columns):
            session.execute(text("ALTER TABLE jobs DROP COLUMN slot"))
        session.execute(text("DELETE FROM worker WHERE id > 1"))
        found.version = SCHEMA
    return found.version


def no_room(error: BaseException | None) -> bool:
    """Whether an error, or one in its chain of causes, is that the disk or a quota is full."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            return True
        error = error.__cause__ or error.__context__
    return False


def passing_trouble(error: Exception) -> str | None:
    """Return the condition to wait out before the same work may succeed.

    None means that the work itself is at fault.
    """
    if isinstance(error, DATABASE_TROUBLE):
        return "the database cannot be used at present"
    if no_room(error):
        return "there is no room on the disk"
    return None
