"""/v1/experiments/{id}/...: summary, comparison, report, export."""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from anyio import to_thread
from fastapi import APIRouter, Query
from pydantic import Field
from starlette.responses import Response

from statebridge.pages.rendering import REPORT_POLICY
from statebridge.records import ResultSet
from statebridge.results.run_results import read_run
from statebridge.results.service_records import Summary
from statebridge.runs.directory import read_manifest
from statebridge.scoring import score_cell, score_conditions
from statebridge.stats.comparison import Comparison
from statebridge.tables import ExportFormat, export_tables
from statebridge_server.api.context import Reader, Server, ServerState
from statebridge_server.api.problems import ProblemError
from statebridge_server.api.v1.experiments import ExperimentId, find_job
from statebridge_server.layout import run_path
from statebridge_server.store.tables import Job

router = APIRouter(prefix="/v1/experiments", tags=["results"])
T = TypeVar("T")

BaselineNames = Annotated[list[str] | None, Query(max_length=20)]
Margin = Annotated[float, Field(gt=0, le=1)]
MetricNames = Annotated[list[str] | None, Query(max_length=40)]


@router.get("/{experiment_id}/summary")
async def get_summary(experiment_id: ExperimentId, server: ServerState, who: Reader) -> Summary:
    """Score the rows that are committed."""
    job = await to_thread.run_sync(find_job, server, who, experiment_id)

    def summarise() -> Summary:
        results = committed_results(server, job)
        return Summary(
            state=job.state,
            complete=all(cell.complete for cell in results.cells),
            conditions=score_conditions([score_cell(cell) for cell in results.cells if cell.lanes]),
        )

    return await analysed(server, summarise)


@router.get("/{experiment_id}/comparison")
async def get_comparison(
    experiment_id: ExperimentId,
    server: ServerState,
    who: Reader,
    baseline: BaselineNames = None,
    metric: MetricNames = None,
    mode: Literal["clustered", "published"] = "clustered",
    by: Annotated[list[str] | None, Query(max_length=10)] = None,
    margin: Annotated[list[Margin] | None, Query(max_length=10)] = None,
) -> Comparison:
    """Compare conditions with baselines (by default the receiver alone), paired by row.

    `margin` is an equivalence margin of the 0/1 metrics; 0.05 and 0.03 where none is given.
    """
    from statebridge.stats import Settings, compare  # noqa: PLC0415 - scipy is slow to load

    job = await to_thread.run_sync(find_job, server, who, experiment_id)
    margins = tuple(margin) if margin else Settings().margins
    settings = Settings(stratify_by=tuple(by or ()), margins=margins)
    return await analysed(
        server,
        lambda: compare(
            committed_results(server, job),
            baseline,
            metrics=metric,
            mode=mode,
            settings=settings,
        ),
    )


@router.get(
    "/{experiment_id}/report",
    response_class=Response,
    responses={200: {"content": {"text/html": {}}, "description": "One HTML page."}},
)
async def get_report(experiment_id: ExperimentId, server: ServerState, who: Reader) -> Response:
    """Return the report as one HTML page."""
    job = await to_thread.run_sync(find_job, server, who, experiment_id)

    return await report_response(server, job)


async def report_response(server: Server, job: Job) -> Response:
    """Return a job's report.

    Raises:
        ProblemError: 409 if no row is committed yet.
    """

    def write() -> bytes:
        from statebridge.report import write_report  # noqa: PLC0415 - matplotlib is slow to load

        with tempfile.TemporaryDirectory() as folder:
            (page,) = write_report(
                committed_results(server, job), folder, formats=("html",), title=job.name
            )
            return page.read_bytes()

    content = await analysed(server, write)
    headers = {"Content-Security-Policy": REPORT_POLICY}
    return Response(content, media_type="text/html; charset=utf-8", headers=headers)


@router.get(
    "/{experiment_id}/export",
    response_class=Response,
    responses={200: {"content": {"application/zip": {}}, "description": "A ZIP archive."}},
)
async def get_export(
    experiment_id: ExperimentId,
    server: ServerState,
    who: Reader,
    format: ExportFormat = "published",
) -> Response:
    """Return published result files, or tables, as a ZIP archive."""
    job = await to_thread.run_sync(find_job, server, who, experiment_id)
    content = await analysed(server, lambda: _export(server, job, format))
    headers = {"Content-Disposition": f'attachment; filename="{job.id}-{format}.zip"'}
    return Response(content, media_type="application/zip", headers=headers)


async def analysed(server: Server, work: Callable[[], T]) -> T:
    """Run statistics or figures on a thread, one at a time."""
    return await to_thread.run_sync(work, limiter=server.analysis)


def committed_results(server: Server, job: Job) -> ResultSet:
    """Return the results of the committed rows.

    Raises:
        ProblemError: 409 if no row is committed yet.
    """
    folder = server.settings.data / run_path(job.id)
    if read_manifest(folder) is None:
        raise ProblemError(409, f"no row is committed yet; the experiment is {job.state}")
    results = read_run(folder)
    if not any(cell.lanes for cell in results.cells):
        raise ProblemError(409, f"no row is committed yet; the experiment is {job.state}")
    return results


def _export(server: Server, job: Job, chosen: ExportFormat) -> bytes:
    results = committed_results(server, job)
    with tempfile.TemporaryDirectory() as folder:
        if chosen == "published":
            from statebridge.results.formats import RESULT_FORMATS  # noqa: PLC0415

            if not all(cell.complete for cell in results.cells):
                raise ProblemError(409, f"the experiment is {job.state}; export it when it is done")
            paths = RESULT_FORMATS.get(chosen).write(results, Path(folder))
        else:
            paths = export_tables(results, folder, chosen)
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as target:
            for path in sorted(paths):
                # A fixed date: the same results give the same archive.
                entry = zipfile.ZipInfo(path.name, (1980, 1, 1, 0, 0, 0))
                entry.compress_type = zipfile.ZIP_DEFLATED
                target.writestr(entry, path.read_bytes())
        return archive.getvalue()
