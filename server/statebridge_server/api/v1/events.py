"""/v1/experiments/{id}/events: what happens, as server-sent events."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, Query
from starlette.responses import StreamingResponse

from statebridge.results.service_records import ENDED
from statebridge_server.api.context import Reader, Server, ServerState
from statebridge_server.api.problems import RETRY_SECONDS, ProblemError
from statebridge_server.api.v1.experiments import ExperimentId, find_job
from statebridge_server.store.jobs import events_after, last_number, visible_job
from statebridge_server.store.keys import Principal
from statebridge_server.store.tables import Job

EVENT_SECONDS = 0.3
"""Between two looks for new events."""

LOOK_SECONDS = 5.0
"""Between looks at the experiment itself, which may have been deleted."""

KEEP_ALIVE_SECONDS = 15.0
"""A comment line keeps proxies from closing a quiet stream."""

router = APIRouter(prefix="/v1/experiments", tags=["experiments"])


@router.get(
    "/{experiment_id}/events",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}, "description": "Events."}},
)
async def stream_events(
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
    job = await server.polls.read(find_job, server, who, experiment_id)
    after = 0
    if last_event_id is not None:
        if not (last_event_id.isascii() and last_event_id.isdigit()):
            raise ProblemError(422, "Last-Event-ID: give the id of an event, a whole number")
        after = min(int(last_event_id), 2**31 - 1)
    elif latest:
        after = max(0, await server.polls.read(last_number, server.database, job.id) - 1)
    return event_response(server, who, job, after)


def event_response(server: Server, who: Principal, job: Job, after: int) -> StreamingResponse:
    """Return the stream of a job's events after a number.

    Raises:
        ProblemError: 429 if too many streams are open.
    """
    if server.event_streams >= server.settings.limits.event_streams:
        raise ProblemError(
            429, "too many event streams are open", {"Retry-After": str(RETRY_SECONDS)}
        )
    return StreamingResponse(
        _events(server, who, job, after),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _events(server: Server, who: Principal, job: Job, after: int) -> AsyncIterator[str]:
    server.event_streams += 1
    sent = looked = time.monotonic()
    state: str = job.state
    try:
        yield "retry: 1000\n\n"
        while not server.stopping.is_set():
            if time.monotonic() - looked >= LOOK_SECONDS:
                found = await server.polls.read(visible_job, server.database, who, job.id)
                if found is None:
                    return
                state, looked = found.state, time.monotonic()
            # Read after the state, so that they include the event that led to it.
            events = await server.polls.read(events_after, server.database, job.id, after)
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
                await asyncio.sleep(EVENT_SECONDS)
    finally:
        server.event_streams -= 1
