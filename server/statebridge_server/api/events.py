"""/v1/experiments/{id}/events: what happens, as server-sent events."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Header, Query
from starlette.responses import StreamingResponse

from statebridge_server.api.context import Reader, Server, ServerState
from statebridge_server.api.experiments import ExperimentId, find_job
from statebridge_server.api.problems import RETRY_SECONDS, ProblemError
from statebridge_server.store.events import events_after, last_number
from statebridge_server.store.jobs import ENDED, visible_job
from statebridge_server.store.keys import Principal
from statebridge_server.store.tables import Event

POLL_SECONDS = 0.3
LOOK_SECONDS = 5.0
"""Between looks at the experiment itself, which may have been deleted."""

KEEP_ALIVE_SECONDS = 15.0
"""A comment line keeps proxies from closing a quiet stream."""

SHARED_EVENTS = 20
"""More at a time are for a stream that begins, alone at its place, and are not kept."""

router = APIRouter(prefix="/v1/experiments", tags=["experiments"])


@router.get(
    "/{experiment_id}/events",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}, "description": "Events."}},
)
def stream_events(
    experiment_id: ExperimentId,
    server: ServerState,
    who: Reader,
    last_event_id: Annotated[str | None, Header(max_length=20)] = None,
    latest: Annotated[
        bool, Query(description="Begin with the last event there is, not with the first.")
    ] = False,
) -> StreamingResponse:
    """Stream events: `state` and `progress`, each with its number as id.

    A client that reconnects with `Last-Event-ID` gets what it missed, nothing twice. The
    stream ends when the experiment has ended.
    """
    job = find_job(server, who, experiment_id)
    after = 0
    if last_event_id is not None:
        if not (last_event_id.isascii() and last_event_id.isdigit()):
            raise ProblemError(422, "Last-Event-ID: give the id of an event, a whole number")
        after = min(int(last_event_id), 2**31 - 1)
    elif latest:
        after = max(0, last_number(server.database, job.id) - 1)
    if server.event_streams >= server.settings.limits.event_streams:
        raise ProblemError(
            429, "too many event streams are open", {"Retry-After": str(RETRY_SECONDS)}
        )
    return StreamingResponse(
        _events(server, who, job.id, after),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _events(server: Server, who: Principal, job_id: str, after: int) -> AsyncIterator[str]:
    server.event_streams += 1
    sent, looked = time.monotonic(), -LOOK_SECONDS
    state: str | None = None
    seen: int | None = None
    try:
        yield "retry: 1000\n\n"
        while not server.stopping.is_set():
            version = server.changes.version()
            look = time.monotonic() - looked >= LOOK_SECONDS
            if look:
                # Before the events: one that is appended in between is then not missed.
                job = await to_thread.run_sync(visible_job, server.database, who, job_id)
                if job is None:
                    return
                looked, state = time.monotonic(), job.state
            events: list[Event] = []
            # Where nothing was committed there is no new event. After a look the state may be
            # newer than the version, and the events that led to it must be read.
            if look or version is None or version != seen:
                events = await _read(server, job_id, after, None if look else version)
                seen = None if events else version  # there may be more than one reading gives
            for event in events:
                after = event.number
                state = str(event.data["state"])
                yield f"id: {event.number}\nevent: {event.kind}\ndata: {json.dumps(event.data)}\n\n"
                sent = time.monotonic()
            if state in ENDED and not events:
                return
            if time.monotonic() - sent > KEEP_ALIVE_SECONDS:
                yield ": still here\n\n"
                sent = time.monotonic()
            if not events:
                await asyncio.sleep(POLL_SECONDS)
    finally:
        server.event_streams -= 1


async def _read(server: Server, job_id: str, after: int, version: int | None) -> list[Event]:
    """Return a job's next events; streams at the same place share what one of them has read."""
    if version is None:
        return await to_thread.run_sync(events_after, server.database, job_id, after)
    known, key = server.event_reads, (version, job_id, after)
    if key not in known:
        if any(of_version != version for of_version, *_ in known):
            known.clear()
        reading = to_thread.run_sync(events_after, server.database, job_id, after)
        known[key] = asyncio.ensure_future(reading)
    task = known[key]
    try:
        # Shielded: that one stream is closed must not end the others' reading.
        events = await asyncio.shield(task)
    except Exception:
        known.pop(key, None)
        raise
    if len(events) > SHARED_EVENTS:
        known.pop(key, None)
    return events
