"""A refused request as one error of ours: one line, with the id of the request."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx

from statebridge.errors import (
    AccessError,
    BusyError,
    InputError,
    NotFoundError,
    ServerError,
    StatebridgeError,
    UnreachableError,
)
from statebridge_client.call import Call, not_statebridge
from statebridge_client.connection import API_KEY, URL, Connection

PROBLEM = "application/problem+json"


def error_of(  # noqa: PLR0911 - one return for each kind of answer
    response: httpx.Response, connection: Connection, refused: type[InputError] = InputError
) -> StatebridgeError:
    """Return the error for an answer of 400 or more, or for a redirection.

    Args:
        response: The answer, read.
        connection: Server that was asked.
        refused: Class of the error where the request's content is wrong.
    """
    problem = _problem(response)
    if problem is None:
        if response.status_code in (502, 503, 504):
            return UnreachableError(
                f"{connection.url}: a proxy answers {response.status_code} in the server's place; "
                "the server may be starting"
            )
        return not_statebridge(response)
    detail = " ".join(str(problem.get("detail", "")).split()) or response.reason_phrase
    request_id = str(problem.get("request_id") or response.headers.get("x-request-id", ""))
    text = f"{detail} (request {request_id[:64]})" if request_id else detail
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    match response.status_code:
        case 401 if connection.key is None:
            return AccessError(f"{connection.url}: {text}; set {API_KEY}, or give a key file")
        case 401 | 403:
            return AccessError(f"{connection.url}: {text}; check the key in {connection.key_from}")
        case 404:
            return NotFoundError(text)
        case 429 | 503 | 507:
            return BusyError(f"{connection.url}: {text}")
        case 400 | 408 | 409 | 413 | 415 | 422:
            return refused(text)
        case _:
            return ServerError(f"{connection.url}: {text}")


def _problem(response: httpx.Response) -> dict[str, Any] | None:
    if response.headers.get("content-type", "").partition(";")[0] != PROBLEM:
        return None
    try:
        problem = response.json()
    except ValueError:
        return None
    return problem if isinstance(problem, dict) else None


@contextmanager
def environment_checked() -> Iterator[None]:
    """Turn what httpx raises on the environment's proxies and certificates into one of ours.

    Raises:
        InputError: Names the variables that are set.
    """
    try:
        yield
    except (httpx.InvalidURL, ValueError, OSError, ImportError) as error:
        # The address of a proxy may hold a password.
        named = [
            f"{name}={' '.join(value.split())}" if name.lower() == "no_proxy" else name
            for name, value in os.environ.items()
            if name.lower() in _READ
        ]
        raise InputError(
            f"the environment's proxies or certificates cannot be used ({error}): "
            f"{', '.join(named)}; write a proxy as http://host:port, hosts of NO_PROXY without "
            "brackets and masks (::1), and give the path of a file of certificates"
        ) from None


_READ = ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "ssl_cert_file", "ssl_cert_dir")
"""Variables that httpx reads, in lower case."""


def unreachable(connection: Connection, error: Exception, seconds: float) -> UnreachableError:
    """Return the error for a server that gave no answer."""
    reason = " ".join(str(error).split()) or type(error).__name__
    tried = f" for {seconds:.0f} s" if seconds >= 1 else ""
    return UnreachableError(
        f"{connection.url}: cannot be reached{tried} ({reason}{_through_proxy(connection)}); check "
        f"{URL}, that the server runs, and the network in between"
    )


def _through_proxy(connection: Connection) -> str:
    """Name the proxy of the environment that is in between, if there is one."""
    parts, proxies = urlsplit(connection.url), getproxies()
    found = proxies.get(parts.scheme, proxies.get("all"))
    if not found or not parts.hostname or proxy_bypass(parts.hostname):
        return ""
    # Without a user name and password.
    proxy = found.rpartition("@")[2].rpartition("//")[2]
    return f", through the environment's proxy {proxy}; NO_PROXY={parts.hostname} goes around it"


def check_status(response: httpx.Response, connection: Connection, call: Call[Any]) -> None:
    """Raise the error of an answer that is not a success."""
    if not response.is_success:
        raise error_of(response, connection, call.refused)
