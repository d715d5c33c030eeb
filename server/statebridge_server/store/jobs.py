"""Jobs from the clients' side: submitting, listing, cancelling, resuming, deleting; and events.

Events are numbered from 1 within their job, and only ever appended.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, get_args

from sqlalchemy import and_, delete, func, or_, select
from sqlalchemy.orm import Session

from statebridge.results.service_records import ENDED, State
from statebridge_server.store.database import Database
from statebridge_server.store.keys import Principal
from statebridge_server.store.tables import HOLDERS, Event, Job, JobInput, Translator

STATES: tuple[State, ...] = get_args(State)

_submitting = threading.Lock()
"""Makes counting and adding one step; only one process accepts submissions."""


class QueueFullError(Exception):
    """There is no room for another job; the message names the limit."""


class IdempotencyConflictError(Exception):
    """The idempotency key was used for another submission."""


class WrongStateError(Exception):
    """The state of a job or an item does not allow the request."""


@dataclass(frozen=True, slots=True)
class NewJob:
    """A checked submission."""

    name: str
    pair: str
    experiment: dict[str, Any]
    lanes: int
    inputs: tuple[tuple[str, str], ...]
    """(kind, item): datasets, corpora and translators that the job reads."""
    request_sha256: str
    priority: int = 0
    shared: bool = False
    idempotency_key: str | None = None


def submit(
    database: Database, owner: str, new: NewJob, *, queue_length: int, jobs_per_key: int
) -> tuple[Job, bool]:
    """Queue a job; return it and whether it is new (False if the idempotency key was known).

    Raises:
        IdempotencyConflictError: The idempotency key belongs to another submission.
        QueueFullError: The queue, or the owner's share of it, is full.
        WrongStateError: A dataset, corpus or translator has gone since it was looked up.
    """
    with _submitting, database.write() as session:
        if new.idempotency_key is not None:
            earlier = session.scalar(
                select(Job).where(Job.owner == owner, Job.idempotency_key == new.idempotency_key)
            )
            if earlier is not None:
                if earlier.request_sha256 != new.request_sha256:
                    raise IdempotencyConflictError(earlier.id)
                return earlier, False
        _check_room(session, owner, queue_length, jobs_per_key)
        for kind, item in new.inputs:
            # Locked until the job is stored: a deletion looks for jobs first.
            found = (
                session.get(HOLDERS[kind], {"sha256": item, "owner": owner}, with_for_update=True)
                if kind in HOLDERS
                else session.get(Translator, item, with_for_update=True)
            )
            if found is None:
                raise WrongStateError(f"{kind} {item} was deleted meanwhile")
        job = Job(
            id=f"exp_{secrets.token_hex(10)}",
            owner=owner,
            shared=new.shared,
            name=new.name,
            pair=new.pair,
            experiment=new.experiment,
            state="queued",
            priority=new.priority,
            idempotency_key=new.idempotency_key,
            request_sha256=new.request_sha256,
            lanes_total=new.lanes,
            submitted_at=time.time(),
        )
        session.add(job)
        session.flush()
        for kind, item in new.inputs:
            session.add(JobInput(job_id=job.id, kind=kind, item=item))
        append_state(session, job)
        return job, True


def _check_room(session: Session, owner: str, queue_length: int, jobs_per_key: int) -> None:
    queued = session.scalar(select(func.count()).where(Job.state == "queued")) or 0
    if queued >= queue_length:
        raise QueueFullError(f"the queue is full: {queued} experiments wait")
    waiting = (Job.owner == owner, Job.state.in_(("queued", "running")))
    own = session.scalar(select(func.count()).where(*waiting)) or 0
    if own >= jobs_per_key:
        raise QueueFullError(f"this key has {own} experiments queued or running, its limit")


def visible_job(database: Database, principal: Principal, job_id: str) -> Job | None:
    """Return a job if the principal may see it, or None."""
    with database.read() as session:
        job = session.scalar(select(Job).where(Job.id == job_id))
    if job is None or not (
        job.shared or job.owner == principal.key_id or principal.role == "admin"
    ):
        return None
    return job


def list_jobs(
    database: Database,
    principal: Principal,
    *,
    states: Iterable[State] = (),
    before: int | None = None,
    limit: int = 50,
) -> list[Job]:
    """Return the jobs that the principal may see, newest first; `before` is a job's number."""
    query = select(Job).order_by(Job.number.desc()).limit(limit)
    if principal.role != "admin":
        query = query.where(or_(Job.owner == principal.key_id, Job.shared))
    if chosen := list(states):
        query = query.where(Job.state.in_(chosen))
    if before is not None:
        query = query.where(Job.number < before)
    with database.read() as session:
        return list(session.scalars(query))


def before_it(database: Database, job: Job) -> int:
    """Return the number of queued jobs of the same key that are taken before a queued job."""
    first = or_(
        Job.priority > job.priority, and_(Job.priority == job.priority, Job.number < job.number)
    )
    query = select(func.count()).where(Job.owner == job.owner, Job.state == "queued", first)
    with database.read() as session:
        return session.scalar(query) or 0


def locked(session: Session, job_id: str) -> Job:
    """Return a job that no other transaction can change before this one ends.

    Raises:
        WrongStateError: It was deleted since it was looked up.
    """
    job = session.scalar(select(Job).where(Job.id == job_id).with_for_update())
    if job is None:
        raise WrongStateError("it was deleted meanwhile")
    return job


def cancel(database: Database, job_id: str) -> Job:
    """Cancel a queued job at once; ask the worker to stop a running one after its group.

    Raises:
        WrongStateError: The job has ended.
    """
    with database.write() as session:
        job = locked(session, job_id)
        if job.state in ENDED:
            raise WrongStateError(f"it is {job.state} already")
        if job.state == "queued":
            job.state, job.finished_at = "cancelled", time.time()
            append_state(session, job)
        elif not job.cancel_requested:
            job.cancel_requested = True
            append_state(session, job)
        return job


def resume(database: Database, job_id: str, *, queue_length: int, jobs_per_key: int) -> Job:
    """Queue a failed or cancelled job again; it goes on after its last committed group.

    Raises:
        WrongStateError: The job has not failed and was not cancelled, or what it reads has been
            deleted since.
        QueueFullError: The queue, or the owner's share of it, is full.
    """
    with _submitting, database.write() as session:
        job = locked(session, job_id)
        if job.state not in ("failed", "cancelled"):
            raise WrongStateError(f"it is {job.state}; only a failed or cancelled one goes on")
        _check_inputs(session, job)
        _check_room(session, job.owner, queue_length, jobs_per_key)
        job.state, job.error, job.failed_workers = "queued", None, 0
        job.cancel_requested, job.finished_at = False, None
        append_state(session, job)
        return job


def _check_inputs(session: Session, job: Job) -> None:
    read = select(JobInput.kind, JobInput.item).where(JobInput.job_id == job.id)
    for kind, item in session.execute(read):
        found = (
            session.get(HOLDERS[kind], {"sha256": item, "owner": job.owner}, with_for_update=True)
            if kind in HOLDERS
            else session.get(Translator, item, with_for_update=True)
        )
        if found is None:
            raise WrongStateError(
                f"{kind} {item}, which it reads, has been deleted; upload it again, or submit the "
                "experiment anew"
            )


def delete_job(database: Database, job_id: str) -> None:
    """Delete an ended job, its events and its name; its directory is the caller's to remove.

    Raises:
        WrongStateError: The job has not ended.
    """
    with database.write() as session:
        job = locked(session, job_id)
        if job.state not in ENDED:
            raise WrongStateError(f"it is {job.state}; cancel it first")
        session.execute(delete(Event).where(Event.job_id == job_id))
        session.execute(delete(JobInput).where(JobInput.job_id == job_id))
        session.delete(job)


def counts(database: Database) -> dict[str, int]:
    """Return the number of jobs in each state."""
    with database.read() as session:
        found = {
            str(state): int(number)
            for state, number in session.execute(
                select(Job.state, func.count()).group_by(Job.state)
            )
        }
    return {state: found.get(state, 0) for state in STATES}


def append_event(session: Session, job: Job, kind: str, data: dict[str, Any]) -> None:
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
    append_event(session, job, "state", data)


def last_number(database: Database, job_id: str) -> int:
    """Return the number of a job's last event, or 0."""
    with database.read() as session:
        return _last_number(session, job_id)


def _last_number(session: Session, job_id: str) -> int:
    return session.scalar(select(func.max(Event.number)).where(Event.job_id == job_id)) or 0


def history(database: Database, job_id: str) -> list[Event]:
    """Return the changes of a job's state, and its last event, in order."""
    with database.read() as session:
        last = _last_number(session, job_id)
        query = (
            select(Event)
            .where(Event.job_id == job_id, or_(Event.kind == "state", Event.number == last))
            .order_by(Event.number)
        )
        return list(session.scalars(query))


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
