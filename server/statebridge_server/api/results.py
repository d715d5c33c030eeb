"""/v1/experiments/{id}/...: rows, summary, comparison, report, export."""

from __future__ import annotations

import io
import json
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from anyio import to_thread
from fastapi import APIRouter, Query
from pydantic import Field
from starlette.responses import Response, StreamingResponse

from statebridge.records import ResultSet
from statebridge.results.run_results import read_run
from statebridge.results.service_records import Summary
from statebridge.runs.directory import ROWS, read_manifest, whole_groups
from statebridge.scoring import score_cell, score_conditions
from statebridge.stats.comparison import Comparison
from statebridge.tables import ExportFormat, export_tables, row_table, to_parquet
from statebridge_server.api.context import Reader, Server, ServerState
from statebridge_server.api.experiments import ExperimentId, find_job
from statebridge_server.api.problems import ProblemError
from statebridge_server.layout import run_path
from statebridge_server.store.tables import Job

router = APIRouter(prefix="/v1/experiments", tags=["results"])
T = TypeVar("T")

BLOCK_BYTES = 64 * 1024
"""Of rows that are sent at a time."""

ConditionFilter = Annotated[list[str] | None, Query(max_length=200)]
SeedFilter = Annotated[list[int] | None, Query(max_length=200)]
BaselineNames = Annotated[list[str] | None, Query(max_length=20)]
Margin = Annotated[float, Field(gt=0, le=1)]
MetricNames = Annotated[list[str] | None, Query(max_length=40)]


@router.get(
    "/{experiment_id}/rows",
    response_class=StreamingResponse,
    responses={200: {"content": {"application/jsonl": {}, "application/vnd.apache.parquet": {}}}},
)
async def get_rows(  # noqa: PLR0913, PLR0917 - each is a filter
    experiment_id: ExperimentId,
    server: ServerState,
    who: Reader,
    after: Annotated[int, Query(ge=0, le=2**53, description="Rows to pass over.")] = 0,
    limit: Annotated[int | None, Query(ge=1, le=2**53)] = None,
    condition: ConditionFilter = None,
    seed: SeedFilter = None,
    row_id: Annotated[list[str] | None, Query(max_length=1000)] = None,
    format: Annotated[Literal["jsonl", "parquet"], Query()] = "jsonl",
) -> Response:
    """Stream committed rows, byte for byte as they stand in the run directory.

    `after` and `limit` count committed rows before filters; the header
    `Statebridge-Next-After` says where to go on. Parquet holds the long table of all rows,
    scores included, with the filters but without `after` and `limit`.
    """
    job = await to_thread.run_sync(find_job, server, who, experiment_id)
    chosen = _Filter(condition, seed, row_id)
    if format == "parquet":
        if after or limit is not None:
            raise ProblemError(422, "after, limit: go with jsonl; Parquet holds all rows at once")
        content = await _analysed(server, lambda: _parquet(server, job, chosen))
        return Response(content, media_type="application/vnd.apache.parquet")
    path, committed, end = await to_thread.run_sync(_committed, server, job)
    last = committed if limit is None else min(committed, after + limit)
    headers = {
        "Statebridge-Committed-Rows": str(committed),
        "Statebridge-Next-After": str(max(after, last)),
        "Cache-Control": "no-store",
    }
    lines = _lines(path, end, after, last, chosen)
    return StreamingResponse(lines, media_type="application/jsonl", headers=headers)


@router.get("/{experiment_id}/summary")
async def get_summary(experiment_id: ExperimentId, server: ServerState, who: Reader) -> Summary:
    """Score the rows that are committed."""
    job = await to_thread.run_sync(find_job, server, who, experiment_id)

    def summarise() -> Summary:
        results = _results(server, job)
        return Summary(
            state=job.state,
            complete=all(cell.complete for cell in results.cells),
            conditions=score_conditions([score_cell(cell) for cell in results.cells if cell.lanes]),
        )

    return await _analysed(server, summarise)


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
    return await _analysed(
        server,
        lambda: compare(
            _results(server, job),
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

    def write() -> bytes:
        from statebridge.report import write_report  # noqa: PLC0415 - matplotlib is slow to load

        with tempfile.TemporaryDirectory() as folder:
            (page,) = write_report(_results(server, job), folder, formats=("html",), title=job.name)
            return page.read_bytes()

    content = await _analysed(server, write)
    # The page runs its own script only, in an origin of its own: no cookie, no key to take.
    headers = {"Content-Security-Policy": "sandbox allow-scripts allow-downloads"}
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
    content = await _analysed(server, lambda: _export(server, job, format))
    headers = {"Content-Disposition": f'attachment; filename="{job.id}-{format}.zip"'}
    return Response(content, media_type="application/zip", headers=headers)


class _Filter:
    """Which rows are wanted."""

    def __init__(
        self, conditions: list[str] | None, seeds: list[int] | None, row_ids: list[str] | None
    ) -> None:
        self._conditions = None if conditions is None else frozenset(conditions)
        self._seeds = None if seeds is None else frozenset(seeds)
        self._row_ids = None if row_ids is None else frozenset(row_ids)
        self.all = conditions is None and seeds is None and row_ids is None

    def cell(self, condition: str, seed: int | None) -> bool:
        return (self._conditions is None or condition in self._conditions) and (
            self._seeds is None or seed in self._seeds
        )

    def row(self, row_id: str) -> bool:
        return self._row_ids is None or row_id in self._row_ids

    def line(self, line: bytes) -> bool:
        if self.all:
            return True
        record = json.loads(line)
        condition, _, seed = record["cell"].partition("/seed")
        return self.cell(condition, int(seed) if seed else None) and self.row(record["row_id"])


async def _analysed(server: Server, work: Callable[[], T]) -> T:
    return await to_thread.run_sync(work, limiter=server.analysis)


def _results(server: Server, job: Job) -> ResultSet:
    """Read the committed rows.

    Raises:
        ProblemError: 409 where none is committed yet.
    """
    folder = server.settings.data / run_path(job.id)
    if read_manifest(folder) is None:
        raise ProblemError(409, f"no row is committed yet; the experiment is {job.state}")
    results = read_run(folder)
    if not any(cell.lanes for cell in results.cells):
        raise ProblemError(409, f"no row is committed yet; the experiment is {job.state}")
    return results


def _committed(server: Server, job: Job) -> tuple[Path, int, int]:
    """Return the rows' file, how many rows are committed, and the bytes that they take."""
    folder = server.settings.data / run_path(job.id)
    manifest = read_manifest(folder)
    path = folder / ROWS
    if manifest is None or not path.exists():
        return path, 0, 0
    lane_counts = manifest["plan"]["lanes"]
    groups, end = whole_groups(path, lane_counts)
    return path, sum(lane_counts[:groups]), end


def _lines(path: Path, end: int, after: int, last: int, chosen: _Filter) -> Iterator[bytes]:
    if end == 0 or after >= last:
        return
    # Line by line would be a step of the event loop for each; blocks are few.
    block, size = [], 0
    with path.open("rb") as stream:
        for line in islice(stream, after, last):
            if chosen.line(line):
                block.append(line)
                size += len(line)
            if size >= BLOCK_BYTES:
                yield b"".join(block)
                block, size = [], 0
    if block:
        yield b"".join(block)


def _parquet(server: Server, job: Job, chosen: _Filter) -> bytes:
    results = _results(server, job)
    results.cells = [cell for cell in results.cells if chosen.cell(cell.condition.name, cell.seed)]
    for cell in results.cells:
        cell.lanes = [row for row in cell.lanes if chosen.row(row.row_id)]
    return to_parquet(row_table(results))


def _export(server: Server, job: Job, chosen: ExportFormat) -> bytes:
    results = _results(server, job)
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
