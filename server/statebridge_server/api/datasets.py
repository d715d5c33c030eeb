"""/v1/datasets: rows as JSON Lines, addressed by their SHA-256."""

from __future__ import annotations

import hashlib
import os
import secrets
import threading
import time
from pathlib import Path
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Query, Request, Response
from fastapi import Path as PathParameter
from pydantic import BaseModel

from statebridge.data import FieldMap, iter_jsonl
from statebridge.errors import DatasetError
from statebridge_server.api.context import Reader, Server, ServerState, Submitter, body_chunks
from statebridge_server.api.problems import ProblemError, not_found
from statebridge_server.api.views import DatasetView, dataset_view
from statebridge_server.layout import INCOMING, dataset_path
from statebridge_server.store import datasets
from statebridge_server.store.datasets import HeldDataset

router = APIRouter(prefix="/v1/datasets", tags=["datasets"])
Sha256 = Annotated[str, PathParameter(pattern=r"^[0-9a-f]{64}$")]
FieldName = Annotated[str | None, Query(min_length=1, max_length=200)]

_keeping = threading.Lock()
"""A file and its record come and go as one: an upload must not meet the same rows' deletion."""

UPLOAD_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/jsonl": {"schema": {"type": "string"}}},
    }
}


class DatasetList(BaseModel):
    """Datasets that this key has uploaded, newest first."""

    datasets: list[DatasetView]


async def receive(request: Request, server: Server) -> tuple[Path, str, int]:
    """Write a request's body to `incoming`; return the file, its SHA-256 and its size.

    The caller removes or renames the file. Raises as `body_chunks` does, the file removed.
    """
    limits = server.settings.limits
    path = server.settings.data / INCOMING / secrets.token_hex(12)
    digest, size = hashlib.sha256(), 0
    stream = path.open("xb")
    try:
        with stream:
            async for chunk in body_chunks(request, limits.upload_bytes, limits.body_seconds):
                digest.update(chunk)
                size += len(chunk)
                await to_thread.run_sync(stream.write, chunk)
            stream.flush()
            await to_thread.run_sync(os.fsync, stream.fileno())
    except BaseException as error:
        path.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise ProblemError(
                507, "the server has no room for this upload", {"Retry-After": "60"}
            ) from None
        raise
    return path, digest.hexdigest(), size


@router.post("", status_code=201, openapi_extra=UPLOAD_BODY)
async def upload_dataset(
    request: Request,
    response: Response,
    server: ServerState,
    who: Submitter,
    id: FieldName = None,
    context: FieldName = None,
    question: FieldName = None,
    answer: FieldName = None,
) -> DatasetView:
    """Upload rows, one JSON object a line; every row is checked before it is taken.

    `id`, `context`, `question` and `answer` name the fields that hold them, where they have
    other names.
    """
    given = {"id": id, "context": context, "question": question, "answer": answer}
    fields = FieldMap(**{name: value for name, value in given.items() if value is not None})
    path, sha256, size = await receive(request, server)

    def keep() -> tuple[HeldDataset, bool]:
        try:
            rows, longest = _checked(path, fields, server)
            dataset = HeldDataset(
                sha256=sha256,
                bytes=size,
                rows=rows,
                longest=longest,
                fields={
                    "id": fields.id,
                    "context": fields.context,
                    "question": fields.question,
                    "answer": fields.answer,
                },
                created_at=time.time(),
            )
            with _keeping:
                path.replace(server.settings.data / dataset_path(sha256))
                return dataset, datasets.hold(server.database, who.key_id, dataset)
        finally:
            path.unlink(missing_ok=True)

    dataset, is_new = await to_thread.run_sync(keep)
    response.status_code = 201 if is_new else 200
    response.headers["Location"] = f"/v1/datasets/{sha256}"
    return dataset_view(dataset)


@router.get("")
def list_datasets(server: ServerState, who: Reader) -> DatasetList:
    """List the datasets that this key has uploaded."""
    return DatasetList(datasets=[dataset_view(d) for d in datasets.held(server.database, who)])


@router.get("/{sha256}")
def get_dataset(sha256: Sha256, server: ServerState, who: Reader) -> DatasetView:
    """Describe a dataset that this key has uploaded."""
    found = datasets.held_dataset(server.database, who, sha256)
    if found is None:
        raise not_found("dataset")
    return dataset_view(found)


@router.delete("/{sha256}", status_code=204)
def delete_dataset(sha256: Sha256, server: ServerState, who: Submitter) -> None:
    """Delete a dataset that this key has uploaded; runs keep the rows that they ran over."""
    if datasets.held_dataset(server.database, who, sha256) is None:
        raise not_found("dataset")
    with _keeping:
        if datasets.let_go(server.database, who.key_id, sha256):
            (server.settings.data / dataset_path(sha256)).unlink(missing_ok=True)


def _checked(path: Path, fields: FieldMap, server: Server) -> tuple[int, int]:
    """Return the number of rows and the length of the longest.

    Raises:
        ProblemError: 422, with the line, for anything wrong or beyond a limit.
    """
    limits = server.settings.limits
    rows = longest = 0
    try:
        for row in iter_jsonl(path, fields):
            rows += 1
            chars = len(row.context) + len(row.question)
            longest = max(longest, chars, len(row.answer))
            if rows > limits.rows:
                raise ProblemError(422, f"more than {limits.rows} rows, this server's limit")
            if longest > limits.prompt_chars:
                raise ProblemError(
                    422,
                    f"row {rows}: context and question, or the answer, have more than "
                    f"{limits.prompt_chars} characters, this server's limit",
                )
    except DatasetError as error:
        raise ProblemError(422, str(error).replace(str(path), "upload")) from None
    return rows, longest
