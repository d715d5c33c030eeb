"""/v1/doctor: whether an experiment could run here, found out before it is queued."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from anyio import to_thread
from fastapi import APIRouter, Request
from pydantic import ValidationError

from statebridge.errors import ExperimentError
from statebridge.results.service_records import DoctorAnswer
from statebridge_server.api.context import Server, ServerState, Submitter, parse_json, read_body
from statebridge_server.api.problems import RETRY_SECONDS, ProblemError
from statebridge_server.api.v1.experiments import EXPERIMENT_BODY
from statebridge_server.api.v1.pairs import seen_worker
from statebridge_server.store.keys import Principal
from statebridge_server.submission import Submission, check_submission

MOST_WAITING, MOST_OF_A_KEY = 8, 2
"""Questions to the doctor at one time: of all keys, and of one. One after another is answered."""

LOOK_SECONDS = 0.5
"""Between two looks whether the client is still there."""

_INSTEAD = "a run makes the same checks before its first row, so it may be submitted all the same"

router = APIRouter(prefix="/v1/doctor", tags=["experiments"])


@router.post("", openapi_extra=EXPERIMENT_BODY)
async def ask(request: Request, server: ServerState, who: Submitter) -> DoctorAnswer:
    """Check an experiment with the models' configuration at hand; nothing is queued.

    The findings are those of `statebridge doctor`, all of them at once. The answer takes some
    seconds, and longer while other questions are answered.
    """
    limits = server.settings.limits
    body = parse_json(await read_body(request, limits.body_bytes, limits.body_seconds))
    checked = await to_thread.run_sync(
        check_submission, body, server.settings, server.database, who
    )
    return await ask_doctor(request, server, who, checked)


async def ask_doctor(
    request: Request, server: Server, who: Principal, checked: Submission
) -> DoctorAnswer:
    """Have the doctor's process check a submission that was accepted.

    Raises:
        ProblemError: 429 while too many wait, 500 if it gives no answer.
        ExperimentError: The experiment is one that it cannot look at.
    """
    with _place(server, who):
        async with server.doctor:
            question = await to_thread.run_sync(_question, server, checked)
            output, code = await _answered(request, server, question)
    if code == -signal.SIGALRM:
        seconds = server.settings.limits.doctor_seconds
        raise ProblemError(500, f"the doctor gave no answer within {seconds} s; {_INSTEAD}")
    try:
        found = json.loads(output)
        if code == 0 and "error" in found:
            raise ExperimentError(str(found["error"]))
        ready = all(check["ready"] for check in found["checks"])
        return DoctorAnswer(ready=ready, checks=found["checks"])
    except (ValueError, KeyError, TypeError, ValidationError):
        raise ProblemError(500, f"the doctor gave no answer; {_INSTEAD}") from None


@contextmanager
def _place(server: Server, who: Principal) -> Iterator[None]:
    """Hold one of the places of those who wait."""
    waiting = server.asking
    if waiting.total() >= MOST_WAITING or waiting[who.key_id] >= MOST_OF_A_KEY:
        retry = {"Retry-After": str(RETRY_SECONDS)}
        raise ProblemError(429, "too many experiments wait for the doctor; ask again later", retry)
    waiting[who.key_id] += 1
    try:
        yield
    finally:
        waiting[who.key_id] -= 1


def _question(server: Server, checked: Submission) -> bytes:
    held = seen_worker(server).pairs.get(checked.pair) or {}
    receivers = held.get("receiver", [{}])
    question: dict[str, Any] = {
        "settings": server.settings.model_dump(mode="json"),
        "seconds": server.settings.limits.doctor_seconds,
        "experiment": checked.experiment.model_dump(mode="json"),
        "pair": checked.pair,
        "loaded": any(each.get("dtype") == checked.experiment.dtype for each in receivers),
        "operations_per_second": receivers[0].get("operations_per_second"),
    }
    return json.dumps(question).encode()


async def _answered(request: Request, server: Server, question: bytes) -> tuple[bytes, int]:
    """Return the output of the doctor's process and its exit code; it ends with its client."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "statebridge_server.worker.doctor"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    talk = asyncio.ensure_future(process.communicate(question))
    try:
        while not (await asyncio.wait({talk}, timeout=LOOK_SECONDS))[0]:
            if server.stopping.is_set() or await request.is_disconnected():
                raise ProblemError(503, "the server stops, or its client has gone")
    finally:
        if process.returncode is None and not talk.done():
            process.kill()
        output, _ = await talk
    return output, process.returncode or 0
