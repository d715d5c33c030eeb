"""The list of experiments, the page of one, their live parts, actions, files, and comparison."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Header, Query
from starlette.responses import Response

from statebridge.errors import ResultError
from statebridge.pages import ExperimentView, LogLine, experiment_facts
from statebridge.results.service_records import ENDED, RUN_FILES, RunFile
from statebridge.tables.formats import EXPORT_FORMATS, ExportFormat
from statebridge_server.api.context import Server, ServerState
from statebridge_server.api.problems import ProblemError
from statebridge_server.api.v1 import experiments as v1
from statebridge_server.api.v1 import results, rows
from statebridge_server.api.v1.events import event_response
from statebridge_server.api.v1.experiments import ExperimentId, find_job
from statebridge_server.layout import run_path
from statebridge_server.pages.frame import fragment, page, see_other
from statebridge_server.pages.job_view import job_view, key_names, log_of
from statebridge_server.pages.session import Submitter, Visitor
from statebridge_server.store.jobs import last_number, list_jobs
from statebridge_server.store.keys import LOCAL, Principal
from statebridge_server.store.tables import Job
from statebridge_server.submission import public_experiment

if TYPE_CHECKING:
    from statebridge.pages.side_by_side import SideBySide

PAGE_LENGTH = 50
"""Experiments of one page of the list."""

CHOICES = 200
"""Experiments, the newest ones, that may be chosen for a comparison."""

Before = Annotated[str | None, Query(max_length=64)]
router = APIRouter()


@router.get("/")
async def experiments_page(server: ServerState, who: Visitor, before: Before = None) -> Response:
    """List the experiments that the key may see."""
    shown, older = await server.polls.read(_listed, server, who, before, PAGE_LENGTH)
    query = "" if before is None else f"?before={before}"
    values = _list_values(shown, who)
    return page(who, "experiments", "Experiments", older=older, query=query, **values)


@router.get("/experiments/list")
async def experiments_part(server: ServerState, who: Visitor, before: Before = None) -> Response:
    """Return the list alone, which the page asks for again and again."""
    shown, _ = await server.polls.read(_listed, server, who, before, PAGE_LENGTH)
    return fragment("experiment_list", **_list_values(shown, who))


def _list_values(shown: Sequence[ExperimentView], who: Principal) -> dict[str, Any]:
    can = "Submit one on this page's head, or with `statebridge submit`."
    return {
        "experiments": shown,
        "owners": who != LOCAL,
        "nothing": f"There is no experiment yet. {can if who.may('submit') else ''}",
    }


def _listed(
    server: Server, who: Principal, before: str | None, limit: int
) -> tuple[list[ExperimentView], str | None]:
    number = None if before is None else find_job(server, who, before).number
    found = list_jobs(server.database, who, before=number, limit=limit + 1)
    names = key_names(server.database, who)
    shown = []
    for job in found[:limit]:
        detail = "" if job.state in ENDED else log_of(server.database, job)[1]
        shown.append(job_view(job, who, names, detail))
    return shown, shown[-1].id if len(found) > limit else None


@router.get("/experiments/{experiment_id}")
async def experiment_page(
    experiment_id: ExperimentId, server: ServerState, who: Visitor
) -> Response:
    """Show one experiment."""
    job, one, log = await server.polls.read(_looked_at, server, who, experiment_id)
    shown = public_experiment(job.experiment, server.settings.pairs.get(job.pair))
    facts = [
        ("id", job.id),
        ("owner", one.owner),
        *experiment_facts(shown),
        ("submitted", f"{one.submitted:%Y-%m-%d %H:%M:%S} UTC"),
    ]
    return page(
        who,
        "experiment",
        "",
        one=one,
        log=log,
        facts=facts,
        files=_FILES,
        experiment_json=json.dumps(shown, indent=2, ensure_ascii=False),
    )


_FILES = [
    {"path": "rows.jsonl", "label": "rows.jsonl", "what": "every committed lane, one a line"},
    {"path": "files/manifest.json", "label": "manifest.json", "what": "what ran, with hashes"},
    {"path": "files/dataset.jsonl", "label": "dataset.jsonl", "what": "the rows that ran"},
    *(
        {"path": f"export/{name}", "label": f"{name}.zip", "what": f"results as {name}"}
        for name in EXPORT_FORMATS
    ),
]


def _looked_at(
    server: Server, who: Principal, experiment_id: str
) -> tuple[Job, ExperimentView, list[LogLine]]:
    job = find_job(server, who, experiment_id)
    log, now = log_of(server.database, job)
    return job, job_view(job, who, key_names(server.database, who), now), log


@router.get("/experiments/{experiment_id}/progress")
async def progress_part(experiment_id: ExperimentId, server: ServerState, who: Visitor) -> Response:
    """Return its progress, log and buttons alone."""
    _, one, log = await server.polls.read(_looked_at, server, who, experiment_id)
    return fragment("experiment_progress", one=one, log=log)


@router.get("/experiments/{experiment_id}/scores")
async def scores_part(experiment_id: ExperimentId, server: ServerState, who: Visitor) -> Response:
    """Return the scores of its committed rows alone."""
    from statebridge.pages.score_view import score_view  # noqa: PLC0415 - scipy is slow to load

    job = await server.polls.read(find_job, server, who, experiment_id)
    folder = server.settings.data / run_path(job.id)

    def answer() -> Response:
        return fragment("experiment_scores", scores=score_view(folder))

    return await results.analysed(server, answer)


@router.get("/experiments/{experiment_id}/events")
async def events(
    experiment_id: ExperimentId,
    server: ServerState,
    who: Visitor,
    last_event_id: Annotated[str | None, Header(max_length=20)] = None,
) -> Response:
    """Stream what happens from now on, or after what the browser has seen."""
    job = await server.polls.read(find_job, server, who, experiment_id)
    if last_event_id is not None and last_event_id.isascii() and last_event_id.isdigit():
        after = min(int(last_event_id), 2**31 - 1)
    else:
        after = await server.polls.read(last_number, server.database, job.id) - 1
    return event_response(server, who, job, max(0, after))


@router.get("/experiments/{experiment_id}/report")
async def report(experiment_id: ExperimentId, server: ServerState, who: Visitor) -> Response:
    """Return its report."""
    job = await to_thread.run_sync(find_job, server, who, experiment_id)
    return await results.report_response(server, job)


@router.get("/experiments/{experiment_id}/rows.jsonl")
async def rows_file(experiment_id: ExperimentId, server: ServerState, who: Visitor) -> Response:
    """Download its committed lanes."""
    return _download(await rows.get_rows(experiment_id, server, who), "rows.jsonl")


@router.get("/experiments/{experiment_id}/files/{name}")
async def run_file(
    experiment_id: ExperimentId, name: RunFile, server: ServerState, who: Visitor
) -> Response:
    """Download a file of its run directory."""
    assert name in RUN_FILES  # noqa: S101 - FastAPI has checked the type
    return _download(await rows.get_run_file(experiment_id, name, server, who), name)


@router.get("/experiments/{experiment_id}/export/{chosen}")
async def export(
    experiment_id: ExperimentId, chosen: ExportFormat, server: ServerState, who: Visitor
) -> Response:
    """Download its results in another format."""
    return await results.get_export(experiment_id, server, who, chosen)


def _download(answer: Response, name: str) -> Response:
    answer.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return answer


@router.post("/experiments/{experiment_id}/cancel")
async def cancel(experiment_id: ExperimentId, server: ServerState, who: Submitter) -> Response:
    """Cancel it."""
    await to_thread.run_sync(v1.cancel_experiment, experiment_id, server, who)
    return see_other(f"/experiments/{experiment_id}")


@router.post("/experiments/{experiment_id}/resume")
async def resume(experiment_id: ExperimentId, server: ServerState, who: Submitter) -> Response:
    """Queue it again."""
    await to_thread.run_sync(v1.resume_experiment, experiment_id, server, who)
    return see_other(f"/experiments/{experiment_id}")


@router.post("/experiments/{experiment_id}/delete")
async def delete(experiment_id: ExperimentId, server: ServerState, who: Submitter) -> Response:
    """Delete it with its rows."""
    await to_thread.run_sync(v1.delete_experiment, experiment_id, server, who)
    return see_other("/")


@router.get("/compare")
async def compare_page(
    server: ServerState,
    who: Visitor,
    run: Annotated[list[ExperimentId] | None, Query(max_length=20)] = None,
) -> Response:
    """Show chosen experiments side by side."""
    chosen = list(dict.fromkeys(run or ()))
    jobs = [await to_thread.run_sync(find_job, server, who, each) for each in chosen]
    shown, _ = await server.polls.read(_listed, server, who, None, CHOICES)

    def answer() -> Response:
        compared, problem = None, None
        if jobs:
            try:
                compared = _side_by_side(server, jobs)
            except (ResultError, ProblemError) as error:
                problem = str(error)
        return page(
            who,
            "compare",
            "Compare",
            200 if problem is None else 422,
            experiments=[one for one in shown if one.done or one.id in chosen],
            chosen=chosen,
            compared=compared,
            problem=problem,
            nothing="There is no experiment with rows yet.",
        )

    return await results.analysed(server, answer)


def _side_by_side(server: Server, jobs: Sequence[Job]) -> SideBySide:
    # Not with the file: scipy is slow to load.
    from statebridge.pages.side_by_side import NamedRun, named, side_by_side  # noqa: PLC0415

    names = named([(job.name, job.id) for job in jobs])
    runs = [
        NamedRun(name, results.committed_results(server, job))
        for name, job in zip(names, jobs, strict=True)
    ]
    return side_by_side(runs)
