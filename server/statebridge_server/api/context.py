"""Shared by all endpoints: the server's state, the key of a request, and reading of a body."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Annotated, Any

import anyio
from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.requests import ClientDisconnect

from statebridge.data.strict_json import JsonError, parse
from statebridge.pages.addresses import host_name, is_loopback
from statebridge_server.api.poll_cache import PollCache
from statebridge_server.api.problems import ProblemError
from statebridge_server.settings import Settings
from statebridge_server.store.database import Database
from statebridge_server.store.keys import (
    LOCAL,
    Principal,
    Role,
    any_key,
    authenticate,
    claimed_id,
    find_key,
)
from statebridge_server.supervisor import Supervisor


class Heartbeat:
    """Time since a worker's record changed, by a clock that does not jump."""

    def __init__(self) -> None:
        self._seen: float | None = None
        self._changed = 0.0

    def age(self, beat_at: float) -> float:
        """Return the seconds since `beat_at` was first seen to be another one."""
        now = time.monotonic()
        if beat_at != self._seen:
            self._seen, self._changed = beat_at, now
        return now - self._changed


@dataclass(eq=False)
class Server:
    """The state of one server process."""

    settings: Settings
    database: Database
    supervisor: Supervisor
    stopping: threading.Event = field(default_factory=threading.Event)
    analysis: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(1))
    """One statistic or figure at a time: each uses a core, and matplotlib is not thread-safe."""
    doctor: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(1))
    """One process of the doctor at a time: each loads torch."""
    asking: Counter[str] = field(default_factory=Counter)
    """Number of questions to the doctor that wait or are being answered, by key."""
    heartbeat: Heartbeat = field(default_factory=Heartbeat)
    event_streams: int = 0
    keys_exist: bool = False
    """True once a key was found: a key is never deleted, so the database is not read again."""
    polls: PollCache = field(init=False)

    def __post_init__(self) -> None:
        self.polls = PollCache(self.database.version)

    async def is_open(self) -> bool:
        """Whether requests need no key: only this machine can connect, and no key was ever made."""
        if not self.keys_exist:
            self.keys_exist = await self.polls.read(any_key, self.database)
        return self.settings.loopback and not self.keys_exist


# Async although it waits for nothing: FastAPI runs a plain function on a thread.
async def get_server(request: Request) -> Server:
    """Return the server that the application belongs to."""
    server: Server = request.app.state.server
    return server


ServerState = Annotated[Server, Depends(get_server)]
_bearer = HTTPBearer(
    auto_error=False, description="A key made by `statebridge keys create`: `sb_...`."
)


async def principal(
    request: Request,
    server: ServerState,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> Principal:
    """Return the key, and its role, that sent a request.

    Without any key, on a server that only this machine can reach, each user of the machine is
    administrator. A web page in a browser on this machine is not.
    """
    if await server.is_open():
        refuse_foreign_pages(request)
        request.state.key_id = LOCAL.key_id
        return LOCAL
    found = None
    if credentials is not None:
        found = await owner_of(credentials.credentials, server)
    if found is None:
        what = "the key is wrong or revoked" if credentials else "a key is needed"
        raise ProblemError(
            401, f"{what}; send Authorization: Bearer sb_...", {"WWW-Authenticate": "Bearer"}
        )
    request.state.key_id = found.key_id
    return found


async def owner_of(token: str, server: Server) -> Principal | None:
    """Return the key that a token is of, with its role; None for a wrong or revoked one."""
    key_id = claimed_id(token)
    key = None if key_id is None else await server.polls.read(find_key, server.database, key_id)
    return authenticate(key, token)


def refuse_foreign_pages(request: Request) -> None:
    """Refuse a request that a page of another site made a browser send.

    Raises:
        ProblemError: 403; neither Host nor Origin may name another machine.
    """
    # A page of any site can make a browser send requests to this address, and a name server can
    # give the address another name; neither has this machine's name in Host or Origin. The header
    # is read directly, since Starlette replaces an odd one by this server's address.
    if not is_loopback(host_name(request.headers.get("host", ""))):
        raise ProblemError(403, "without keys the server answers to localhost only")
    origin = request.headers.get("origin")
    if origin is not None and not is_loopback(host_name(origin.partition("://")[2])):
        raise ProblemError(403, "without keys the server answers no other site's pages")


def needs(role: Role) -> Callable[..., Awaitable[Principal]]:
    """Return a dependency that refuses keys whose role does not include `role`."""

    async def check(who: Annotated[Principal, Depends(principal)]) -> Principal:
        if not who.may(role):
            raise ProblemError(403, f"this key's role is {who.role}; {role} is needed")
        return who

    return check


Reader = Annotated[Principal, Depends(needs("read"))]
Submitter = Annotated[Principal, Depends(needs("submit"))]


async def body_chunks(request: Request, limit: int, seconds: float) -> AsyncIterator[bytes]:
    """Yield a request's body, refusing one that is too large or too slow.

    Raises:
        ProblemError: 413 over `limit` bytes, 408 over `seconds`, 415 for a coded body.
    """
    if request.headers.get("content-encoding", "identity") != "identity":
        raise ProblemError(415, "send the body as it is, without Content-Encoding")
    too_large = ProblemError(413, f"the body may have {limit} bytes at most")
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared[:20]) > limit:
        raise too_large
    received = 0
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                received += len(chunk)
                if received > limit:
                    raise too_large
                yield chunk
    except TimeoutError:
        raise ProblemError(408, f"the body did not arrive within {seconds:g} s") from None
    except ClientDisconnect:
        raise ProblemError(400, "the connection closed before the body was whole") from None


async def read_body(request: Request, limit: int, seconds: float) -> bytes:
    """Return a request's whole body; raises as `body_chunks` does."""
    parts = [chunk async for chunk in body_chunks(request, limit, seconds)]
    return b"".join(parts)


def parse_json(content: bytes) -> Any:
    """Return the value of a JSON body.

    Raises:
        ProblemError: 400 for what is not strict JSON in UTF-8.
    """
    try:
        return parse(content.decode("utf-8"))
    except UnicodeDecodeError:
        raise ProblemError(400, "the body is not UTF-8") from None
    except JsonError as error:
        place = f" (line {error.line}, column {error.column})" if error.line else ""
        raise ProblemError(400, f"the body is not JSON{place}: {error.problem}") from None


def refuse_nul(text: str, what: str) -> str:
    """Return the text if every database can store it.

    Raises:
        ProblemError: 422 for a control character or half a surrogate pair.
    """
    if not text.isprintable():
        raise ProblemError(422, f"{what}: give printable characters")
    return text
