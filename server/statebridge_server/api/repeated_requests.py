"""Requests that come again byte for byte, answered before they are parsed.

A client that polls sends the same bytes each time. What they ask was found out when they came
first; where its answer still holds, there is nothing left to find out.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from statebridge_server.api.kept_answers import KeptAnswers
from statebridge_server.api.requests import (
    Header,
    RequestMetrics,
    headers_of_each,
    new_request_id,
)

WHOLE_REQUEST = "whole_request"
"""In a request's state: its bytes, where they came alone and leave the connection open."""

LONGEST = 4096
"""Of the requests that are known, in bytes."""

MOST_REQUESTS = 1000
"""Known at a time."""

ANSWERED_TO = frozenset({b"x-request-id", b"expect"})
"""Headers that change how a request is answered, whatever the answer is."""


class RepeatedRequests:
    """What the bytes of earlier requests ask; of the bytes only a digest is kept."""

    def __init__(self, answers: KeptAnswers, metrics: RequestMetrics) -> None:
        self._answers, self._metrics = answers, metrics
        self._asked: dict[bytes, tuple[bytes, Scope]] = {}

    def remember(self, scope: Scope, key: bytes) -> None:
        """Take note that a request is answered by what is kept under a key."""
        request = scope["state"].get(WHOLE_REQUEST)
        if request is None or any(name in ANSWERED_TO for name, _ in scope["headers"]):
            return
        digest = _digest(request)
        if digest in self._asked:
            return
        if len(self._asked) >= MOST_REQUESTS:
            self._asked.clear()
        said = {name: scope[name] for name in ("method", "path", "route")}
        state = {"key_id": scope["state"].get("key_id"), "from_memory": True}
        self._asked[digest] = (key, {**said, "state": state})

    def answer(self, request: bytes, headers: Iterable[Header]) -> bytes | None:
        """Return the answer to a request as it goes over the wire; None where it must be read.

        Args:
            request: All that a client sent, on a connection where nothing else is under way.
            headers: That every answer of the server has.
        """
        began = time.perf_counter()
        if len(request) > LONGEST:
            return None
        asked = self._asked.get(_digest(request))
        if asked is None or self._answers.now() is None:
            return None
        key, scope = asked
        answer = self._answers.get(key)
        if answer is None:
            return None
        status, body = answer.start["status"], answer.body["body"]
        request_id = new_request_id()
        lines = [STATUS_LINE[status]]
        for name, value in (*headers, *answer.start["headers"], *headers_of_each(request_id)):
            lines += (name, b": ", value, b"\r\n")
        content = b"".join((*lines, b"\r\n", body))
        self._metrics.record(scope, request_id, status, time.perf_counter() - began)
        return content


def _digest(request: bytes) -> bytes:
    return hashlib.sha256(request).digest()
