"""Around every request: an id, a size limit on its head, a log line, counts, a 500 on failure."""

from __future__ import annotations

import logging
import re
import secrets
import time
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from statebridge_server.api.problems import problem_response
from statebridge_server.logs import log

MAX_HEAD_BYTES = 64 * 1024
"""Size limit of a request's target and headers together."""

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the histogram's buckets."""

_POLLED = frozenset(
    {
        "/healthz",
        "/readyz",
        "/metrics",
        "/v1/experiments",
        "/v1/experiments/{experiment_id}",
        "/experiments/list",
        "/experiments/{experiment_id}/progress",
        "/experiments/{experiment_id}/scores",
    }
)
"""Routes that programs, and pages that are open, read all the time."""

_CLIENT_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_log = logging.getLogger("statebridge.http")


class RequestMetrics:
    """Counts and durations of requests, by route rather than by path."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.count = Counter(
            "statebridge_http_requests",
            "HTTP requests by method, route and status.",
            ("method", "route", "status"),
            registry=registry,
        )
        self.seconds = Histogram(
            "statebridge_http_request_seconds",
            "Time to the end of the response, event streams left out.",
            ("method", "route"),
            buckets=SECONDS,
            registry=registry,
        )

    def record(self, scope: Scope, request_id: str, status: int, seconds: float) -> None:
        """Count a request that was answered, and log it."""
        route = getattr(scope.get("route"), "path", "unmatched")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self.count.labels(method, route, str(status)).inc()
        if not route.endswith("/events"):
            self.seconds.labels(method, route).observe(seconds)
        # At level info, twenty polling clients would log hundreds of megabytes a day.
        polled = method == "GET" and route in _POLLED and status < 400
        level = logging.DEBUG if polled or route == "/readyz" else logging.INFO
        if not _log.isEnabledFor(level):
            return
        fields: dict[str, Any] = {
            "request_id": request_id,
            "method": method,
            "path": scope["path"][:200],
            "status": status,
            "milliseconds": round(seconds * 1000, 2),
            "key": scope["state"].get("key_id"),
        }
        log(_log, level, "request", **fields)


class RequestContext:
    """ASGI middleware; the client's X-Request-Id is kept where it is a plain word."""

    def __init__(self, app: ASGIApp, metrics: RequestMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        began, status = time.perf_counter(), 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message.get("headers", ()),
                    (b"x-request-id", request_id.encode("ascii")),
                    (b"x-content-type-options", b"nosniff"),
                ]
            await send(message)

        try:
            if _head_bytes(scope) > MAX_HEAD_BYTES:
                reason = f"the request's line and headers are over {MAX_HEAD_BYTES // 1024} KiB"
                answer = problem_response(scope, 400, reason, {"Connection": "close"})
                await answer(scope, receive, send_with_id)
                return
            await self._app(scope, receive, send_with_id)
        except Exception:
            # The traceback is for the operator; the client gets the id to ask about.
            _log.exception("request failed", extra={"fields": {"request_id": request_id}})
            if status == 0:
                answer = problem_response(scope, 500, "the server failed; the log has this id")
                await answer(scope, receive, send_with_id)
        finally:
            self._metrics.record(scope, request_id, status, time.perf_counter() - began)


def _head_bytes(scope: Scope) -> int:
    """Return the size of target and headers; each header has a colon, a space and a line end."""
    target = len(scope["raw_path"]) + len(scope["query_string"])
    return target + sum(len(name) + len(value) + 4 for name, value in scope["headers"])


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            text: str = value.decode("latin-1")
            if _CLIENT_ID.fullmatch(text):
                return text
    return secrets.token_hex(8)
