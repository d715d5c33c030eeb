"""Errors as problem details (RFC 9457): one JSON shape for every refusal."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import Response

from statebridge.errors import EnvironmentFault, StatebridgeError
from statebridge_server.logs import log
from statebridge_server.store.database import DATABASE_TROUBLE, no_room
from statebridge_server.store.jobs import IdempotencyConflictError, QueueFullError, WrongStateError

RETRY_SECONDS = 15
"""Value of Retry-After while there is no room."""

MEDIA_TYPE = "application/problem+json"
_log = logging.getLogger("statebridge.http")


class ProblemDetails(BaseModel):
    """The body of every error."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    instance: str
    request_id: str


class ProblemError(Exception):
    """A refusal with its status; `detail` states what would be right."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})


def not_found(what: str) -> ProblemError:
    """Return the same answer for a missing item and for an item of another key."""
    return ProblemError(404, f"there is no such {what}, or this key may not see it")


def problem_response(
    scope: Mapping[str, Any], status: int, detail: str, headers: Mapping[str, str] | None = None
) -> Response:
    """Return a problem-details response for a request's ASGI scope."""
    body = ProblemDetails(
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        instance=str(scope.get("path", "")),
        request_id=str(scope.get("state", {}).get("request_id", "")),
    )
    # ASCII, because a client's text may hold half a surrogate pair.
    content = json.dumps(body.model_dump()).encode("ascii")
    return Response(content, status, headers=dict(headers or {}), media_type=MEDIA_TYPE)


PageOfProblem = Callable[[Request, int, str, Mapping[str, str]], Response]
"""Returns the page that shows a person a refusal: its status, its detail, its headers."""


def install_problem_handlers(app: FastAPI, page: PageOfProblem) -> None:
    """Turn every error that reaches the application into problem details, or into a page.

    A page is for a browser that asked for one: outside of /v1, and text/html is what it accepts.
    """

    async def refusal(request: Request, error: Exception) -> Response:
        status, detail, headers = _described(error)
        # Clients must not see where the data is on the host.
        data = f"{request.app.state.server.settings.data}/"
        detail = detail.replace(data, "")
        accepts_page = "text/html" in request.headers.get("accept", "")
        if accepts_page and not request.url.path.startswith("/v1"):
            return page(request, status, detail, headers)
        return problem_response(request.scope, status, detail, headers)

    for kind in (
        ProblemError,
        HTTPException,
        RequestValidationError,
        StatebridgeError,
        QueueFullError,
        IdempotencyConflictError,
        WrongStateError,
        *DATABASE_TROUBLE,
        OSError,
    ):
        app.add_exception_handler(kind, refusal)


def _described(  # noqa: PLR0911 - one return for each kind of error
    error: Exception,
) -> tuple[int, str, Mapping[str, str]]:
    retry = {"Retry-After": str(RETRY_SECONDS)}
    match error:
        case ProblemError():
            return error.status, error.detail, error.headers
        case RequestValidationError():
            return 422, _validation(error), {}
        case HTTPException():
            return error.status_code, str(error.detail), error.headers or {}
        case QueueFullError():
            return 429, f"{error}; try again later", retry
        case IdempotencyConflictError():
            return (
                422,
                (
                    f"this Idempotency-Key was used for another submission, {error}; give each "
                    "submission its own"
                ),
                {},
            )
        case WrongStateError():
            return 409, str(error), {}
        case EnvironmentFault():
            log(_log, logging.ERROR, "environment fault", error=str(error))
            return 503, "the server cannot store data at present; its operator is told", retry
        case _ if isinstance(error, DATABASE_TROUBLE):
            # The database's own message, without the values of the statement.
            message = str(getattr(error, "orig", None) or error)
            log(_log, logging.ERROR, "database fault", error=message)
            return 503, "the database cannot be used at present", retry
        case OSError():
            if not no_room(error):
                raise error
            log(_log, logging.ERROR, "no room", error=error.strerror)
            return 507, "the server has no room on its disk at present", retry
        case _:
            return 422, str(error), {}


def _validation(error: RequestValidationError) -> str:
    faults = error.errors()
    first = faults[0]
    where = ".".join(str(part) for part in first["loc"])
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    message = first["msg"].removeprefix("Value error, ")
    return f"{where}: {message}{more}"
