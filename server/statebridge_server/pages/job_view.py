"""A job of the database as the pages show an experiment."""

from __future__ import annotations

import time

from statebridge.pages import ExperimentView, LogLine, seconds_left
from statebridge.progress import STAGES
from statebridge_server.api.v1.views import moment
from statebridge_server.store.database import Database
from statebridge_server.store.jobs import before_it, history
from statebridge_server.store.keys import Principal, list_keys
from statebridge_server.store.tables import Event, Job


def job_view(job: Job, who: Principal, names: dict[str, str], detail: str = "") -> ExperimentView:
    """Return a job as a key sees it.

    Args:
        job: The job, which the key may see.
        who: The key.
        names: Name of each key by its id; see `key_names`.
        detail: What it does now.
    """
    left = None
    if job.state == "running" and job.claimed_at is not None:
        seconds = time.time() - job.claimed_at
        left = seconds_left(job.lanes_at_claim, job.lanes_done, job.lanes_total, seconds)
    mine = job.owner == who.key_id
    changes = who.may("submit") and (mine or who.may("admin"))
    ended = job.state in ("done", "failed", "cancelled")
    cancelling = job.cancel_requested and job.state == "running"
    return ExperimentView(
        id=job.id,
        name=job.name,
        state=job.state,
        pair=job.pair,
        done=job.lanes_done,
        total=job.lanes_total,
        reused=job.lanes_reused,
        submitted=moment(job.submitted_at),
        finished=None if job.finished_at is None else moment(job.finished_at),
        owner=_owner(job, names, mine=mine),
        detail="cancelling" if cancelling else detail,
        left=left,
        error=job.error,
        may_cancel=changes and not ended and not cancelling,
        may_resume=changes and job.state in ("failed", "cancelled"),
        may_delete=changes and ended,
    )


def _owner(job: Job, names: dict[str, str], *, mine: bool) -> str:
    whose = "you" if mine else names.get(job.owner, "another key")
    return f"{whose}, shared" if job.shared else whose


def key_names(database: Database, who: Principal) -> dict[str, str]:
    """Return the name of each key by its id, for an administrator; nothing for others."""
    if not who.may("admin"):
        return {}
    return {key.id: f"{key.name} ({key.id})" for key in list_keys(database)}


def log_of(database: Database, job: Job) -> tuple[list[LogLine], str]:
    """Return what happened to a job, and what it does now."""
    events = history(database, job.id)
    lines = [LogLine(moment(event.at), _words(event, first=event.number == 1)) for event in events]
    now = ""
    if job.state == "queued":
        count = before_it(database, job)
        now = f"after {count} of the same key" if count else "next of its key"
    if events and job.state == "running" and events[-1].kind == "progress":
        now = STAGES.get(events[-1].data["stage"], "")
    return lines, now


def _words(event: Event, *, first: bool) -> str:
    data = event.data
    count = f"{data['done']:,} of {data['total']:,}"
    if event.kind == "progress":
        return f"{STAGES.get(data['stage'], data['stage'])}: {count}"
    if data.get("cancelling"):
        return "cancellation asked for: it stops after the group that is running"
    lanes = f"{count} lanes committed"
    match data["state"]:
        case "queued":
            return "submitted" if first else f"queued again; {lanes}"
        case "running":
            return f"started by a worker; {lanes}"
        case "failed":
            return f"failed; {lanes}: {data.get('error', '')}"
        case state:
            return f"{state}; {lanes}"
