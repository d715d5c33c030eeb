"""Events of a job, numbered from 1 within the job: appending and reading."""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from statebridge_server.store.database import Database
from statebridge_server.store.tables import Event, Job


def append(session: Session, job: Job, kind: str, data: dict[str, Any]) -> None:
    """Append an event; the caller has locked the job, so numbers are distinct."""
    number = _last_number(session, job.id) + 1
    event = Event(job_id=job.id, number=number, kind=kind, data=data, at=time.time())
    session.add(event)
    session.flush()


def append_state(session: Session, job: Job) -> None:
    """Append the job's present state as an event."""
    data: dict[str, Any] = {
        "state": job.state,
        "done": job.lanes_done,
        "total": job.lanes_total,
    }
    if job.cancel_requested and job.state == "running":
        data["cancelling"] = True
    if job.lanes_reused:
        data["reused"] = job.lanes_reused
    if job.error is not None:
        data["error"] = job.error
    append(session, job, "state", data)


def last_number(database: Database, job_id: str) -> int:
    """Return the number of a job's last event, or 0."""
    with database.read() as session:
        return _last_number(session, job_id)


def _last_number(session: Session, job_id: str) -> int:
    return session.scalar(select(func.max(Event.number)).where(Event.job_id == job_id)) or 0


def events_after(database: Database, job_id: str, number: int, limit: int = 200) -> list[Event]:
    """Return the events after a number, in order."""
    query = (
        select(Event)
        .where(Event.job_id == job_id, Event.number > number)
        .order_by(Event.number)
        .limit(limit)
    )
    with database.read() as session:
        return list(session.scalars(query))
