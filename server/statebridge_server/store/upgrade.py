"""Tables of an earlier version, brought up to this one where they are opened."""

from __future__ import annotations

from sqlalchemy import inspect, select, text
from sqlalchemy.orm import Session

from statebridge_server.store.tables import SCHEMA, Base, Job, SchemaVersion


def upgrade(session: Session) -> int:
    """Return the version of the tables, after those steps that are known.

    Only the table of the version must be there; where it is empty, all others are made. Of
    several processes that open one database, one takes the steps and the others wait.
    """
    found = session.scalar(select(SchemaVersion).with_for_update())
    if found is None:
        session.add(SchemaVersion(version=SCHEMA))
        session.flush()
        Base.metadata.create_all(session.connection())
        return SCHEMA
    if found.version == 2:
        _from_2(session)
        found.version = 3
    if found.version in (3, 4):
        # Version 4 added the tables of corpora. Version 5 stores lanes; before, their table held
        # places in the files of runs. Lanes are a cache, so the old table is dropped.
        session.execute(text("DROP TABLE IF EXISTS lanes"))
        Base.metadata.create_all(session.connection())
        found.version = 5
    return found.version


def _from_2(session: Session) -> None:
    """Since version 3 a job says which worker took it."""
    columns = inspect(session.connection()).get_columns(Job.__tablename__)
    if not any(column["name"] == "slot" for column in columns):
        session.execute(text("ALTER TABLE jobs ADD COLUMN slot INTEGER"))
