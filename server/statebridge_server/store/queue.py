"""Jobs from the workers' side: who is next, progress, and how a job ended.

One worker process at a time holds the worker's lock (`statebridge_server.worker.lock`). When a
worker has just got it, a job that is `running` was left by a dead worker. No clock is compared, so
a clock that jumps does no harm.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Any

from sqlalchemy import Select, func, select

from statebridge.results.service_records import State
from statebridge_server.store.database import Database
from statebridge_server.store.jobs import append_event, append_state, locked
from statebridge_server.store.tables import Job, WorkerState

MAX_FAILED_WORKERS = 3
"""A job fails when this many workers in a row died over it without committing a group."""


def take_next(database: Database, not_of: Collection[str] = ()) -> Job | None:
    """Mark the next job as running and return it; None if there is none.

    The turn goes to the key that has waited longest since a job of it was last taken; of one
    key's jobs the highest priority goes first, then the oldest. So no key can push another
    one back, by many jobs or by high priorities. Turns are counted, not timed: a clock that
    jumps favours nobody.

    Args:
        database: The store.
        not_of: Keys whose jobs have to wait.
    """
    query = _next_job(not_of)
    with database.read() as session:  # usually there is no job, and nothing to write
        if session.scalar(query) is None:
            return None
    with database.write() as session:
        job_id = session.scalar(query)
        job = session.scalar(select(Job).where(Job.id == job_id).with_for_update())
        if job is None or job.state != "queued":  # cancelled, or deleted, in between
            return None
        job.turn = (session.scalar(select(func.max(Job.turn))) or 0) + 1
        job.state, job.claimed_at, job.lanes_at_claim = "running", time.time(), job.lanes_done
        append_state(session, job)
        return job


def _next_job(not_of: Collection[str]) -> Select[str]:
    turns = (
        select(Job.owner.label("owner"), func.max(Job.turn).label("last"))
        .group_by(Job.owner)
        .subquery()
    )
    return (
        select(Job.id)
        .join(turns, turns.c.owner == Job.owner)
        .where(Job.state == "queued", Job.owner.not_in(not_of))
        .order_by(turns.c.last, Job.priority.desc(), Job.number)
        .limit(1)
    )


def note_progress(
    database: Database,
    job_id: str,
    stage: str,
    done: int,
    total: int,
    speed: dict[str, float],
    *,
    committed: bool = False,
) -> bool:
    """Record the progress of a job in lanes; return whether it was cancelled and should stop.

    Args:
        committed: Whether the present worker has committed a group of this stage.
    """
    with database.write() as session:
        job = locked(session, job_id)
        if committed:
            job.failed_workers = 0
        if stage == "run":
            job.lanes_done, job.lanes_total = done, total
        elif stage == "reuse":
            job.lanes_reused = done
        data: dict[str, Any] = {"state": job.state, "stage": stage, "done": done, "total": total}
        append_event(session, job, "progress", data | speed)
        return job.cancel_requested


def end(database: Database, job_id: str, state: State, error: str | None = None) -> None:
    """Record how a running job ended, unless that is recorded already."""
    with database.write() as session:
        job = locked(session, job_id)
        if job.state != "running":  # recorded, but the database's answer was lost
            return
        job.state, job.error, job.finished_at = state, _storable(error), time.time()
        if state == "done":
            job.lanes_done = job.lanes_total
        append_state(session, job)


def _storable(text: str | None) -> str | None:
    """Escape what not every database can store: NUL, and half a surrogate pair."""
    if text is None:
        return None
    whole = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return whole.replace("\0", "\\x00")


def put_back(database: Database, job_id: str | None = None) -> None:
    """Queue a running job again, or all of them, because the worker stops."""
    query = _left_running() if job_id is None else _left_running().where(Job.id == job_id)
    with database.write() as session:
        for job in session.scalars(query):
            job.state = "queued"
            append_state(session, job)


def recover(database: Database, reason: str) -> list[Job]:
    """Queue again, or fail, the running jobs of a dead worker; return them.

    Args:
        database: The store.
        reason: How the worker ended, whose lock the caller holds.
    """
    with database.write() as session:
        left = list(session.scalars(_left_running()))
        for job in left:
            # A worker may have died between committing a group and noting it, which its
            # successor then noted.
            job.failed_workers = (
                1 if job.lanes_done > job.lanes_at_claim else job.failed_workers + 1
            )
            if job.cancel_requested:
                job.state, job.finished_at = "cancelled", time.time()
            elif job.failed_workers >= MAX_FAILED_WORKERS:
                job.state, job.finished_at = "failed", time.time()
                job.error = (
                    f"the worker process died {job.failed_workers} times over this experiment "
                    f"without finishing a group (the last time: {reason}); it may need more memory "
                    "than there is: try a smaller execution.max_lanes"
                )
            else:
                job.state = "queued"
            append_state(session, job)
        return left


def _left_running() -> Select[Job]:
    return select(Job).where(Job.state == "running").with_for_update()


def beat(database: Database, pid: int, state: str, detail: str, pairs: dict[str, Any]) -> None:
    """Record the state of the worker."""
    with database.write() as session:
        session.merge(
            WorkerState(
                id=1, pid=pid, state=state, detail=detail[:400], pairs=pairs, beat_at=time.time()
            )
        )


def worker_state(database: Database) -> WorkerState | None:
    """Return the last recorded state of the worker."""
    with database.read() as session:
        return session.get(WorkerState, 1)
