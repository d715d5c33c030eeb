"""Uploads of datasets and corpora: files, addressed by their SHA-256 and held by keys."""

from __future__ import annotations

import hashlib
import os
import secrets
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

from anyio import CapacityLimiter, to_thread
from fastapi import Path as PathParameter
from fastapi import Query, Request, Response

from statebridge.errors import InputError
from statebridge.experiment import declared
from statebridge_server.api.context import Server, body_chunks
from statebridge_server.api.problems import ProblemError, not_found
from statebridge_server.layout import INCOMING, upload_path
from statebridge_server.store import uploads
from statebridge_server.store.keys import Principal
from statebridge_server.store.tables import Holder
from statebridge_server.store.uploads import Held

H = TypeVar("H", bound=Holder)

Sha256 = Annotated[declared.Sha256, PathParameter()]
ExpectedSha256 = Annotated[
    declared.Sha256 | None,
    Query(alias="sha256", description="Of the body; refused if it is another."),
]

_checks = CapacityLimiter(2)
"""Uploads that are checked at once: each takes the interpreter from other requests."""

_keeping = threading.Lock()
"""Held while a file and its record change, so that an upload never meets a deletion."""


def upload_body(media_type: str) -> dict[str, Any]:
    """Return the OpenAPI description of an upload's body."""
    content = {media_type: {"schema": {"type": "string"}}}
    return {"requestBody": {"required": True, "content": content}}


async def receive(request: Request, server: Server, limit: int) -> tuple[Path, str, int]:
    """Write a request's body to `incoming`; return the file, its SHA-256 and its size.

    The caller removes or renames the file. Raises as `body_chunks` does, the file removed.
    """
    path = server.settings.data / INCOMING / secrets.token_hex(12)
    digest, size = hashlib.sha256(), 0
    stream = path.open("xb")
    try:
        with stream:
            seconds = server.settings.limits.body_seconds
            async for chunk in body_chunks(request, limit, seconds):
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


async def take(
    request: Request,
    response: Response,
    server: Server,
    limit: int,
    expected: str | None,
    described: Callable[[Path, str], H],
) -> Held[H]:
    """Keep a request's body for a key, once it has been checked.

    Args:
        request: The request.
        response: The answer; its status shows whether the key held the file before.
        server: The server.
        limit: Of the body, in bytes.
        expected: The SHA-256 that the body must have, if one is named.
        described: Checks the file, given its path and SHA-256, and returns the holder's record;
            an `InputError` that it raises names the file by its path.

    Raises:
        ProblemError: As `receive` does; 422 for another hash, or if `described` refuses.
    """
    path, sha256, size = await receive(request, server, limit)

    def keep() -> tuple[Held[H], bool]:
        try:
            if expected is not None and sha256 != expected:
                raise ProblemError(
                    422,
                    f"the body has SHA-256 {sha256}, not the declared {expected}; send it whole",
                )
            try:
                upload = Held(size, described(path, sha256))
            except InputError as error:
                raise ProblemError(422, str(error).replace(str(path), "upload")) from None
            with _keeping:
                target = server.settings.data / upload_path(upload.holder.kind, sha256)
                there = target.exists()
                path.replace(target)
                try:
                    return upload, uploads.hold(server.database, upload)
                except BaseException:
                    if not there:
                        # No record would ever lead to it.
                        target.unlink(missing_ok=True)
                    raise
        finally:
            path.unlink(missing_ok=True)

    upload, is_new = await to_thread.run_sync(keep, limiter=_checks)
    response.status_code = 201 if is_new else 200
    response.headers["Location"] = f"{request.url.path}/{sha256}"
    return upload


def find(server: Server, kind: type[H], who: Principal, sha256: str) -> Held[H]:
    """Return an upload that the key holds.

    Raises:
        ProblemError: 404 where it holds none of this hash.
    """
    found = uploads.held_upload(server.database, kind, who, sha256)
    if found is None:
        raise not_found(kind.kind)
    return found


def remove(server: Server, kind: type[H], who: Principal, sha256: str) -> None:
    """Remove an upload from a key; its file is deleted with the last key that holds it.

    Raises:
        ProblemError: 404 where it holds none of this hash.
        WrongStateError: An experiment that has not ended reads it.
    """
    find(server, kind, who, sha256)
    with _keeping:
        if uploads.let_go(server.database, kind, who.key_id, sha256):
            (server.settings.data / upload_path(kind.kind, sha256)).unlink(missing_ok=True)
