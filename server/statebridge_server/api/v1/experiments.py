"""/v1/experiments: submit, list, get, cancel, resume, delete."""

from __future__ import annotations

import hashlib
import json
import shutil
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Header, Path, Query, Request, Response

from statebridge.results.service_records import ExperimentList, ExperimentStatus, State
from statebridge_server.api.context import (
    Reader,
    Server,
    ServerState,
    Submitter,
    parse_json,
    read_body,
    refuse_nul,
)
from statebridge_server.api.problems import ProblemError, not_found
from statebridge_server.api.v1.views import experiment_view
from statebridge_server.layout import run_path
from statebridge_server.store import jobs
from statebridge_server.store.keys import Principal
from statebridge_server.store.tables import Job
from statebridge_server.submission import check_submission

router = APIRouter(prefix="/v1/experiments", tags=["experiments"])
ExperimentId = Annotated[str, Path(max_length=64, description="The experiment's id, `exp_...`.")]

EXPERIMENT_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "description": "The fields of an experiment file (`statebridge schema`), with "
                    "references in the place of paths.",
                    "required": ["name", "sender", "receiver", "dataset"],
                    "properties": {
                        "name": {"type": "string"},
                        "sender": {"type": "object"},
                        "receiver": {"type": "object"},
                        "dataset": {
                            "type": "object",
                            "description": "{sha256} of an uploaded dataset, or {generate}.",
                        },
                        "translators": {
                            "type": "object",
                            "description": "A translator's id for each seed, or {fit}, whose "
                            "corpus is {sha256} of an uploaded one, or {generate}.",
                        },
                    },
                    "additionalProperties": True,
                }
            }
        },
    }
}


def find_job(server: Server, who: Principal, experiment_id: str) -> Job:
    """Return a job that the key may see.

    Raises:
        ProblemError: 404 for one that does not exist or belongs to somebody else.
    """
    job = None
    if experiment_id.isascii() and experiment_id.isprintable():
        job = jobs.visible_job(server.database, who, experiment_id)
    if job is None:
        raise not_found("experiment")
    return job


def _own_job(server: Server, who: Principal, experiment_id: str) -> Job:
    job = find_job(server, who, experiment_id)
    if job.owner != who.key_id and not who.may("admin"):
        raise ProblemError(403, "this experiment is shared with you; it is not yours to change")
    return job


@router.post("", status_code=201, openapi_extra=EXPERIMENT_BODY)
async def submit_experiment(
    request: Request,
    response: Response,
    server: ServerState,
    who: Submitter,
    priority: Annotated[
        int, Query(ge=-100, le=100, description="Orders this key's own experiments.")
    ] = 0,
    shared: Annotated[bool, Query(description="Let every key read it.")] = False,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=200)] = None,
) -> ExperimentStatus:
    """Queue an experiment.

    With an `Idempotency-Key` the same submission sent again gives the same experiment (200).
    """
    limits = server.settings.limits
    content = await read_body(request, limits.body_bytes, limits.body_seconds)
    if idempotency_key is not None:
        refuse_nul(idempotency_key, "Idempotency-Key")
    body = parse_json(content)

    job, is_new = await to_thread.run_sync(
        queue_experiment, server, who, body, priority, shared, idempotency_key
    )
    response.status_code = 201 if is_new else 200
    response.headers["Location"] = f"/v1/experiments/{job.id}"
    if not is_new:
        response.headers["Idempotency-Replayed"] = "true"
    return experiment_view(job, who, server.settings)


def queue_experiment(
    server: Server,
    who: Principal,
    body: Any,
    priority: int = 0,
    shared: bool = False,
    idempotency_key: str | None = None,
) -> tuple[Job, bool]:
    """Check a submission and queue it; return the job and whether it is new.

    Raises:
        ExperimentError: A field is wrong or beyond a limit.
        QueueFullError: The queue, or the key's share of it, is full.
        IdempotencyConflictError: The idempotency key belongs to another submission.
    """
    checked = check_submission(body, server.settings, server.database, who)
    experiment = checked.experiment
    refuse_nul(experiment.name, "name")
    asked = json.dumps([body, priority, shared], sort_keys=True)
    limits = server.settings.limits
    new = jobs.NewJob(
        name=experiment.name,
        pair=checked.pair,
        experiment=experiment.model_dump(mode="json"),
        lanes=checked.lanes,
        inputs=checked.inputs,
        request_sha256=hashlib.sha256(asked.encode("ascii")).hexdigest(),
        priority=priority,
        shared=shared,
        idempotency_key=idempotency_key,
    )
    return jobs.submit(
        server.database,
        who.key_id,
        new,
        queue_length=limits.queue_length,
        jobs_per_key=limits.jobs_per_key,
    )


@router.get("")
async def list_experiments(
    server: ServerState,
    who: Reader,
    state: Annotated[list[State] | None, Query()] = None,
    before: Annotated[str | None, Query(max_length=64)] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> ExperimentList:
    """List the experiments that this key may see, newest first."""
    return await server.polls.read(_page, server, who, tuple(state or ()), before, limit)


def _page(
    server: Server, who: Principal, states: tuple[State, ...], before: str | None, limit: int
) -> ExperimentList:
    number = None if before is None else find_job(server, who, before).number
    found = jobs.list_jobs(server.database, who, states=states, before=number, limit=limit + 1)
    page = found[:limit]
    return ExperimentList(
        experiments=[experiment_view(job, who, server.settings) for job in page],
        next_before=page[-1].id if len(found) > limit else None,
    )


@router.get("/{experiment_id}")
async def get_experiment(
    experiment_id: ExperimentId, server: ServerState, who: Reader
) -> ExperimentStatus:
    """Return the state of an experiment."""
    return await server.polls.read(_view, server, who, experiment_id)


def _view(server: Server, who: Principal, experiment_id: str) -> ExperimentStatus:
    return experiment_view(find_job(server, who, experiment_id), who, server.settings)


@router.post("/{experiment_id}/cancel")
def cancel_experiment(
    experiment_id: ExperimentId, server: ServerState, who: Submitter
) -> ExperimentStatus:
    """Cancel: at once where it waits, after its group where it runs. Its rows stay."""
    job = jobs.cancel(server.database, _own_job(server, who, experiment_id).id)
    return experiment_view(job, who, server.settings)


@router.post("/{experiment_id}/resume")
def resume_experiment(
    experiment_id: ExperimentId, server: ServerState, who: Submitter
) -> ExperimentStatus:
    """Queue a failed or cancelled experiment again; it goes on after its last rows."""
    limits = server.settings.limits
    job = jobs.resume(
        server.database,
        _own_job(server, who, experiment_id).id,
        queue_length=limits.queue_length,
        jobs_per_key=limits.jobs_per_key,
    )
    return experiment_view(job, who, server.settings)


@router.delete("/{experiment_id}", status_code=204)
def delete_experiment(experiment_id: ExperimentId, server: ServerState, who: Submitter) -> None:
    """Delete an ended experiment with its rows; translators that it fitted stay."""
    job = _own_job(server, who, experiment_id)
    jobs.delete_job(server.database, job.id)
    folder = server.settings.data / run_path(job.id)
    shutil.rmtree(folder, ignore_errors=True)
