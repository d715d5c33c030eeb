"""A request as data: what is sent, when it is sent again, and how its answer is read."""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Generic, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ValidationError

from statebridge.errors import InputError, ServerError
from statebridge_client.connection import Connection

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)

CONNECT_SECONDS = 10.0
WRITE_SECONDS = 120.0
READ_SECONDS = 60.0
"""Longest wait for the next bytes of an answer."""

AGAIN = frozenset({429, 502, 503, 504})
"""No room at present, or a proxy before a server that is starting: later it may work."""


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request. A `repeatable` one does no more when it is sent twice."""

    method: str
    path: str
    parse: Callable[[httpx.Response], T]
    params: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = None
    repeatable: bool = False
    refused: type[InputError] = InputError
    """Class of the error where the server refuses the request's content."""
    read_seconds: float = READ_SECONDS


@dataclass(frozen=True, slots=True)
class Retry:
    """Patience of a client with what may pass: lost connections, 429, 502, 503, 504.

    Only requests that do no more when they are sent twice are sent again: reading, deleting,
    scoring, uploads of datasets and corpora (addressed by their content), submissions (which
    carry an `Idempotency-Key`).
    """

    attempts: int = 4
    """Attempts of one request in all."""
    first_seconds: float = 0.5
    """Pause before the second attempt; doubled before each further one, and varied by a quarter
    so that clients do not come back all at once."""
    longest_seconds: float = 60.0
    """A server that asks (`Retry-After`) for a longer pause is not asked again."""

    def after_error(self, call: Call[Any], attempt: int) -> float | None:
        """Return the pause after a lost connection; None to give up. Attempts count from 1."""
        return self._back_off(attempt) if call.repeatable and attempt < self.attempts else None

    def after_answer(
        self, call: Call[Any], attempt: int, status: int, headers: Mapping[str, str]
    ) -> float | None:
        """Return the pause after an answer; None to take the answer as it is."""
        if status not in AGAIN or not call.repeatable or attempt >= self.attempts:
            return None
        asked = retry_after(headers)
        if asked is None:
            return self._back_off(attempt)
        return asked if asked <= self.longest_seconds else None

    def _back_off(self, attempt: int) -> float:
        pause = self.first_seconds * 2.0 ** (attempt - 1)
        spread: float = random.uniform(0.75, 1.25)  # noqa: S311 - spreads clients, guards nothing
        return min(pause * spread, self.longest_seconds)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that a `Retry-After` header asks for; None without a whole number."""
    text = headers.get("retry-after", "")
    return float(text[:9]) if text.isascii() and text.isdigit() else None


def resource(*parts: str) -> str:
    """Return a path below `/v1`, whatever the parts hold."""
    return "/".join(("/v1", *(quote(part, safe="") for part in parts)))


def http_options(connection: Connection) -> dict[str, Any]:
    """Return the arguments of an `httpx` client."""
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


def model_of(model: type[M], part: str | None = None) -> Callable[[httpx.Response], Any]:
    """Return a parser of answers of this form, or of one field of them.

    The parser raises `ServerError` on an answer of another form.
    """

    def parse(response: httpx.Response) -> Any:
        try:
            found = model.model_validate_json(response.content)
        except ValidationError:
            raise not_statebridge(response) from None
        return found if part is None else getattr(found, part)

    return parse


def read_object(response: httpx.Response) -> dict[str, Any]:
    """Return an answer's JSON object.

    Raises:
        ServerError: It is none: something else than a Statebridge server answered.
    """
    try:
        found = response.json()
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise not_statebridge(response)
    return found


def read_bytes(response: httpx.Response) -> bytes:
    """Return an answer's content."""
    return response.content


def read_nothing(_response: httpx.Response) -> None:
    """Pass over the answer."""


def not_statebridge(response: httpx.Response) -> ServerError:
    """Return the error for an answer that a Statebridge server does not give."""
    kind = response.headers.get("content-type", "no content type").partition(";")[0]
    return ServerError(
        f"{response.request.url.copy_with(query=None)}: the answer ({response.status_code}, "
        f"{kind[:60]}) is not that of a Statebridge server of this version; check STATEBRIDGE_URL"
    )
