"""From a call to the arguments of an HTTP library: the same for both clients."""

from __future__ import annotations

import secrets
from importlib.metadata import version
from typing import Any

import httpx

from statebridge_client._call import Call
from statebridge_client._connection import Connection

CONNECT_SECONDS = 10.0
WRITE_SECONDS = 120.0


def http_options(connection: Connection) -> dict[str, Any]:
    """Return what an `httpx` client is made with."""
    headers = {"User-Agent": f"statebridge/{version('statebridge')}"}
    if connection.key is not None:
        headers["Authorization"] = f"Bearer {connection.key}"
    # No redirection is followed: a key goes to the server that it was given for.
    return {"base_url": connection.url, "headers": headers, "follow_redirects": False}


def request_arguments(call: Call[Any]) -> dict[str, Any]:
    """Return the arguments of `httpx`'s `request` for a call."""
    return {
        "method": call.method,
        "url": call.path,
        "params": {name: value for name, value in call.params.items() if value is not None},
        "headers": {**call.headers, **request_id()},
        "content": call.content,
        "timeout": timeouts(call.read_seconds),
    }


def timeouts(read_seconds: float) -> httpx.Timeout:
    """Return the timeouts of a request whose answer may take `read_seconds` to begin."""
    return httpx.Timeout(
        connect=CONNECT_SECONDS, read=read_seconds, write=WRITE_SECONDS, pool=read_seconds
    )


def request_id() -> dict[str, str]:
    """Return a header by which a request can be found in the server's log."""
    return {"X-Request-Id": secrets.token_hex(8)}


def is_done(call: Call[Any], attempt: int, status: int) -> bool:
    """Whether a deletion that is sent again has succeeded before its answer was lost."""
    return call.method == "DELETE" and attempt > 1 and status == 404
