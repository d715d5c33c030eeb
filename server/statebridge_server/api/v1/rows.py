"""/v1/experiments/{id}/rows and /files: the committed rows and the other files of a run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated, Literal

from anyio import to_thread
from fastapi import APIRouter, Query
from fastapi import Path as PathParameter
from starlette.responses import Response, StreamingResponse

from statebridge.results.service_records import RUN_FILES, RunFile
from statebridge.runs.directory import MANIFEST, ROWS, read_manifest, whole_groups
from statebridge.tables import row_table, to_parquet
from statebridge_server.api.context import Reader, Server, ServerState
from statebridge_server.api.problems import ProblemError
from statebridge_server.api.v1.experiments import ExperimentId, find_job
from statebridge_server.api.v1.results import analysed, committed_results
from statebridge_server.layout import run_path
from statebridge_server.store.tables import Job

router = APIRouter(prefix="/v1/experiments", tags=["results"])

BLOCK_BYTES = 64 * 1024
"""Size of the blocks in which rows are sent."""

ConditionFilter = Annotated[list[str] | None, Query(max_length=200)]
SeedFilter = Annotated[list[int] | None, Query(max_length=200)]
FileName = Annotated[
    RunFile,
    PathParameter(description="Of the run directory; the rows have a route of their own."),
]
_JSON, _LINES = "application/json", "application/jsonl"


@router.get(
    "/{experiment_id}/rows",
    response_class=StreamingResponse,
    responses={200: {"content": {"application/jsonl": {}, "application/vnd.apache.parquet": {}}}},
)
async def get_rows(  # noqa: PLR0913, PLR0917 - each is a filter
    experiment_id: ExperimentId,
    server: ServerState,
    who: Reader,
    after: Annotated[int, Query(ge=0, le=2**53, description="Lanes to pass over.")] = 0,
    limit: Annotated[int | None, Query(ge=1, le=2**53)] = None,
    condition: ConditionFilter = None,
    seed: SeedFilter = None,
    row_id: Annotated[list[str] | None, Query(max_length=1000)] = None,
    format: Annotated[Literal["jsonl", "parquet"], Query()] = "jsonl",
) -> Response:
    """Stream the committed lanes (one dataset row in one cell each), as in the run directory.

    `after` and `limit` count committed lanes before filters; the header `Statebridge-Next-After` is
    the next value of `after`. Parquet holds the long table of all lanes, scores included, with the
    filters but without `after` and `limit`.
    """
    job = await to_thread.run_sync(find_job, server, who, experiment_id)
    chosen = _Filter(condition, seed, row_id)
    if format == "parquet":
        if after or limit is not None:
            raise ProblemError(422, "after, limit: go with jsonl; Parquet holds all rows at once")
        content = await analysed(server, lambda: _parquet(server, job, chosen))
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


@router.get(
    "/{experiment_id}/files/{name}",
    response_class=Response,
    responses={200: {"content": {_JSON: {}, _LINES: {}}, "description": "A file."}},
)
async def get_run_file(
    experiment_id: ExperimentId, name: FileName, server: ServerState, who: Reader
) -> Response:
    """Return a file of the run directory, byte for byte.

    With `/rows` these are the files of a run directory as the library reads it. A file that the run
    has not written is empty.
    """
    job = await to_thread.run_sync(find_job, server, who, experiment_id)
    folder = server.settings.data / run_path(job.id)

    def read() -> bytes:
        # The manifest is written after all other files that precede the rows.
        if not (folder / MANIFEST).exists():
            raise ProblemError(409, f"no row is committed yet; the experiment is {job.state}")
        path = folder / RUN_FILES[name]
        return path.read_bytes() if path.exists() else b""

    content = await to_thread.run_sync(read)
    media = _JSON if name.endswith(".json") else _LINES
    return Response(content, media_type=media, headers={"Cache-Control": "no-store"})


class _Filter:
    """Selection of lanes by condition, seed and row id."""

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


def _committed(server: Server, job: Job) -> tuple[Path, int, int]:
    """Return the file of the rows, the number of committed lanes, and their size in bytes."""
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
    # In blocks: each piece that is sent costs a step of the event loop.
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
    results = committed_results(server, job)
    results.cells = [cell for cell in results.cells if chosen.cell(cell.condition.name, cell.seed)]
    for cell in results.cells:
        cell.lanes = [row for row in cell.lanes if chosen.row(row.row_id)]
    return to_parquet(row_table(results))
