"""Jobs as the worker sees them: whose turn it is, how far it came, how it ended.

One worker process at a time holds the lock of the data directory (`statebridge_server.worker`).
A job that is `running` when a worker has just got that lock was therefore left by a dead one:
no clock is compared, so none can jump.
"""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import func, select

from statebridge_server.store.database import Database
from statebridge_server.store.events import append, append_state
from statebridge_server.store.jobs import State, locked
from statebridge_server.store.tables import Job, WorkerState

MAX_DEATHS = 3
"""Workers that may die over a job, without a group committed in between, before it fails."""


def take_next(database: Database) -> Job | None:
    """Mark the next job as running and return it; None where nothing waits.

    The turn goes to the key that has waited longest since a job of it was last taken; of one
    key's jobs the highest priority goes first, then the oldest. So no key can push another
    one back, by many jobs or by high priorities. Turns are counted, not timed: a clock that
    jumps favours nobody.
    """
    turns = (
        select(Job.owner.label("owner"), func.max(Job.turn).label("last"))
        .group_by(Job.owner)
        .subquery()
    )
    query = (
        select(Job)
        .join(turns, turns.c.owner == Job.owner)
        .where(Job.state == "queued")
        .order_by(turns.c.last, Job.priority.desc(), Job.number)
        .limit(1)
    )
    with database.read() as session:  # most often there is nothing, and nothing is written
        found = session.scalar(query)
    if found is None:
        return None
    with database.write() as session:
        query = select(Job).where(Job.id == found.id).with_for_update()
        job = session.scalar(query)
        if job is None or job.state != "queued":  # cancelled, or deleted, in between
            return None
        job.turn = (session.scalar(select(func.max(Job.turn))) or 0) + 1
        job.state, job.claimed_at, job.lanes_at_claim = "running", time.time(), job.lanes_done
        append_state(session, job)
        return job


def note_progress(
    database: Database, job_id: str, stage: str, done: int, total: int, speed: dict[str, float]
) -> bool:
    """Record how far a job is; return whether it should stop because it was cancelled."""
    with database.write() as session:
        job = locked(session, job_id)
        if stage == "run":
            job.lanes_done, job.lanes_total = done, total
        elif stage == "reuse":
            job.lanes_reused = done
        data: dict[str, Any] = {"state": job.state, "stage": stage, "done": done, "total": total}
        append(session, job, "progress", data | speed)
        return job.cancel_requested


def end(database: Database, job_id: str, state: State, error: str | None = None) -> None:
    """Record how a running job ended; nothing where that is recorded already."""
    with database.write() as session:
        job = locked(session, job_id)
        if job.state != "running":  # recorded, though the answer to that was lost
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


def put_back(database: Database) -> None:
    """Queue again what this worker leaves when it is told to stop."""
    with database.write() as session:
        for job in session.scalars(select(Job).where(Job.state == "running").with_for_update()):
            job.state = "queued"
            append_state(session, job)


def recover(database: Database, reason: str) -> list[Job]:
    """Queue again, or fail, what a dead worker left running; return those jobs.

    Args:
        database: The store.
        reason: How the worker ended, in words.
    """
    with database.write() as session:
        left = list(session.scalars(select(Job).where(Job.state == "running").with_for_update()))
        for job in left:
            job.deaths = 1 if job.lanes_done > job.lanes_at_claim else job.deaths + 1
            if job.cancel_requested:
                job.state, job.finished_at = "cancelled", time.time()
            elif job.deaths >= MAX_DEATHS:
                job.state, job.finished_at = "failed", time.time()
                job.error = (
                    f"the worker process died {job.deaths} times over this experiment without "
                    f"finishing a group (the last time: {reason}); it may need more memory than "
                    "there is: try a smaller execution.max_lanes"
                )
            else:
                job.state = "queued"
            append_state(session, job)
        return left


def beat(database: Database, pid: int, state: str, detail: str, pairs: dict[str, Any]) -> None:
    """Record what the worker is doing."""
    with database.write() as session:
        session.merge(
            WorkerState(
                id=1, pid=pid, state=state, detail=detail[:400], pairs=pairs, beat_at=time.time()
            )
        )


def worker_state(database: Database) -> WorkerState | None:
    """Return what a worker last recorded of itself."""
    with database.read() as session:
        return session.get(WorkerState, 1)
