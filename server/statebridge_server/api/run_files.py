"""/v1/experiments/{id}/files: what beside the rows makes a run directory explain itself."""

from __future__ import annotations

from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter
from fastapi import Path as PathParameter
from starlette.responses import Response

from statebridge.results.service_records import RUN_FILES, RunFile
from statebridge.runs.directory import MANIFEST
from statebridge_server.api.context import Reader, ServerState
from statebridge_server.api.experiments import ExperimentId, find_job
from statebridge_server.api.problems import ProblemError
from statebridge_server.layout import run_path

router = APIRouter(prefix="/v1/experiments", tags=["results"])

FileName = Annotated[
    RunFile,
    PathParameter(description="Of the run directory; the rows have a route of their own."),
]
_JSON, _LINES = "application/json", "application/jsonl"


@router.get(
    "/{experiment_id}/files/{name}",
    response_class=Response,
    responses={200: {"content": {_JSON: {}, _LINES: {}}, "description": "A file."}},
)
async def get_run_file(
    experiment_id: ExperimentId, name: FileName, server: ServerState, who: Reader
) -> Response:
    """Return a file of the run directory, byte for byte as it stands there.

    With `/rows` these are what the library reads as a run directory. A file that the run has
    not written, or not yet, is empty.
    """
    job = await to_thread.run_sync(find_job, server, who, experiment_id)
    folder = server.settings.data / run_path(job.id)

    def read() -> bytes:
        # The manifest is written last of what precedes the rows.
        if not (folder / MANIFEST).exists():
            raise ProblemError(409, f"no row is committed yet; the experiment is {job.state}")
        path = folder / RUN_FILES[name]
        return path.read_bytes() if path.exists() else b""

    content = await to_thread.run_sync(read)
    media = _JSON if name.endswith(".json") else _LINES
    return Response(content, media_type=media, headers={"Cache-Control": "no-store"})
