"""Answers of a server that is not there: what a transport of httpx gives back, one by one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

import httpx

from statebridge_client import AsyncClient, Client, Retry

Answer = httpx.Response | Exception | Callable[[httpx.Request], httpx.Response]
URL = "http://gpu.example.org"


class Script:
    """Gives prepared answers in order, and keeps the requests."""

    def __init__(self, answers: Iterable[Answer]) -> None:
        self._answers = iter(answers)
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = next(self._answers)
        if isinstance(answer, Exception):
            raise answer
        return answer(request) if callable(answer) else answer

    def client(self, key: str | None = None, **retry: Any) -> Client:
        """A client that gets these answers."""
        return Client(URL, key, retry=Retry(**retry), transport=httpx.MockTransport(self))

    def async_client(self, **retry: Any) -> AsyncClient:
        """An asynchronous one."""
        return AsyncClient(URL, retry=Retry(**retry), transport=httpx.MockTransport(self))


def problem(status: int, detail: str = "no", **headers: str) -> httpx.Response:
    """A refusal as the server writes it."""
    body = {
        "type": "about:blank",
        "title": "x",
        "status": status,
        "detail": detail,
        "instance": "/",
        "request_id": "f00d",
    }
    kind = {"content-type": "application/problem+json"}
    return httpx.Response(status, content=json.dumps(body), headers=kind | headers)


def status_of(state: str, **fields: Any) -> dict[str, Any]:
    """State of an experiment, as the server writes it."""
    return {
        "id": "exp_1",
        "name": "tiny",
        "state": state,
        "cancelling": False,
        "pair": "tiny",
        "priority": 0,
        "shared": False,
        "mine": True,
        "rows_done": 3,
        "rows_total": 8,
        "rows_reused": 0,
        "error": None,
        "submitted_at": "2026-01-01T00:00:00.000+00:00",
        "started_at": None,
        "finished_at": None,
        "experiment": {},
    } | fields


def answer(content: Any, status: int = 200) -> httpx.Response:
    """An answer in JSON."""
    return httpx.Response(status, json=content)


def stream(*events: tuple[int, str, dict[str, Any]]) -> httpx.Response:
    """A stream of events that then ends."""
    lines = "retry: 1000\n\n" + "".join(
        f"id: {number}\nevent: {kind}\ndata: {json.dumps(data)}\n\n"
        for number, kind, data in events
    )
    return httpx.Response(200, text=lines, headers={"content-type": "text/event-stream"})
