"""Jobs from the workers' side: who is next, progress, and how a job ended.

One worker process at a time holds the lock of a slot (`statebridge_server.worker.slots`). When a
worker has just got that lock, a job that is `running` in the slot was left by a dead worker. No
clock is compared, so a clock that jumps does no harm.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Any

from sqlalchemy import Select, and_, func, or_, select

from statebridge.results.service_records import State
from statebridge_server.store.database import Database
from statebridge_server.store.jobs import append_event, append_state, locked
from statebridge_server.store.tables import Job, SchemaVersion, WorkerState

MAX_FAILED_WORKERS = 3
"""A job fails when this many workers in a row died over it without committing a group."""


def take_next(
    database: Database, slot: int = 0, slots: int = 1, failed_pairs: Collection[str] = ()
) -> Job | None:
    """Mark the next job of a slot as running and return it; None if there is none.

    The turn goes to the key that has waited longest since a job of it was last taken; of one
    key's jobs the highest priority goes first, then the oldest. So no key can push another
    one back, by many jobs or by high priorities. Turns are counted, not timed: a clock that
    jumps favours nobody.

    A job that was begun continues in its slot, on the device of its first rows, as long as that
    slot exists.

    Args:
        slots: Number of slots.
        failed_pairs: Pairs whose new jobs are left to other slots.
    """
    query = _next_job(slot, slots, failed_pairs)
    with database.read() as session:  # usually there is no job, and nothing to write
        if session.scalar(query) is None:
            return None
    with database.write() as session:
        # Workers choose one after another, so that each sees the turns before its own.
        session.scalar(select(SchemaVersion.version).with_for_update())
        job_id = session.scalar(query)
        job = session.scalar(select(Job).where(Job.id == job_id).with_for_update())
        if job is None or job.state != "queued":  # cancelled, or deleted, in between
            return None
        job.turn = (session.scalar(select(func.max(Job.turn))) or 0) + 1
        job.state, job.claimed_at, job.lanes_at_claim = "running", time.time(), job.lanes_done
        job.slot = slot
        append_state(session, job)
        return job


def _next_job(slot: int, slots: int, failed_pairs: Collection[str]) -> Select[str]:
    turns = (
        select(Job.owner.label("owner"), func.max(Job.turn).label("last"))
        .group_by(Job.owner)
        .subquery()
    )
    new = or_(Job.slot.is_(None), Job.slot >= slots)
    return (
        select(Job.id)
        .join(turns, turns.c.owner == Job.owner)
        .where(
            Job.state == "queued",
            or_(Job.slot == slot, and_(new, Job.pair.not_in(failed_pairs))),
        )
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


def put_back(database: Database, slot: int = 0) -> None:
    """Queue again the jobs of a slot whose worker stops."""
    with database.write() as session:
        for job in session.scalars(_left_running(slot)):
            job.state = "queued"
            append_state(session, job)


def recover(database: Database, reason: str, slot: int = 0) -> list[Job]:
    """Queue again, or fail, the running jobs of a slot's dead worker; return them.

    Args:
        database: The store.
        reason: How the worker ended.
        slot: The slot, whose lock the caller holds.
    """
    with database.write() as session:
        left = list(session.scalars(_left_running(slot)))
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


def _left_running(slot: int) -> Select[Job]:
    # A server that knew no slots had the first one only.
    own = or_(Job.slot == slot, Job.slot.is_(None)) if slot == 0 else Job.slot == slot
    return select(Job).where(Job.state == "running", own).with_for_update()


def slots_beyond(database: Database, slots: int) -> list[int]:
    """Return the slots from `slots` on in which a job is recorded as running."""
    query = select(Job.slot).where(Job.state == "running", Job.slot >= slots).distinct()
    with database.read() as session:
        return sorted(slot for slot in session.scalars(query) if slot is not None)


def beat(
    database: Database, pid: int, state: str, detail: str, pairs: dict[str, Any], slot: int = 0
) -> None:
    """Record the state of a slot's worker."""
    with database.write() as session:
        session.merge(
            WorkerState(
                id=slot + 1,
                pid=pid,
                state=state,
                detail=detail[:400],
                pairs=pairs,
                beat_at=time.time(),
            )
        )


def worker_states(database: Database) -> dict[int, WorkerState]:
    """Return the last recorded state of each worker, by slot."""
    with database.read() as session:
        return {found.id - 1: found for found in session.scalars(select(WorkerState))}
