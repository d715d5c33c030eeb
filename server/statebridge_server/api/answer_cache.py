"""Answers to polling clients, given again as long as the database has not changed.

How an experiment stands is a function of the database, the request and the settings, which stay
as they are while the server runs. So an answer holds until the next commit, whoever makes it: a
revoked key, a cancelled experiment or another group of rows is seen at once. Hundreds of clients
that ask every other second then cost the machine, which has models to run, little.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from statebridge_server.store.changes import Changes

POLLED = re.compile(r"/v1/experiments(/[^/]*)?")
DECIDING = (b"authorization", b"host", b"origin", b"cookie", b"x-forwarded-for")
"""Headers that who asks depends on, or might one day."""

MOST_ANSWERS, MOST_BYTES = 1000, 32_768
"""Kept at a time, and of each body."""


@dataclass(frozen=True, slots=True)
class _Answer:
    start: Message
    body: Message
    route: Any
    state: Mapping[str, Any]


class AnswerCache:
    """ASGI middleware over reads of experiments; everything else passes through."""

    def __init__(self, app: ASGIApp, changes: Changes) -> None:
        self._app, self._changes = app, changes
        self._version: int | None = None
        self._answers: dict[bytes, _Answer] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        version = None
        if (
            scope["type"] == "http"
            and scope["method"] == "GET"
            and POLLED.fullmatch(scope["path"]) is not None
        ):
            # Before anything is read: what is read is then at least as new.
            version = self._changes.version()
        if version is None:
            await self._app(scope, receive, send)
            return
        if version != self._version:
            self._version = version
            self._answers.clear()
        key = _key(scope)
        known = self._answers.get(key)
        if known is not None:
            scope["route"] = known.route
            scope["state"].update(known.state)
            # Copied: whoever sends it on adds headers.
            await send(dict(known.start))
            await send(known.body)
            return
        await self._answer(scope, receive, send, version, key)

    async def _answer(
        self, scope: Scope, receive: Receive, send: Send, version: int, key: bytes
    ) -> None:
        sent: list[Message] = []

        async def send_and_keep(message: Message) -> None:
            sent.append(dict(message))
            await send(message)

        await self._app(scope, receive, send_and_keep)
        if self._version != version or len(self._answers) >= MOST_ANSWERS or len(sent) != 2:
            return
        start, body = sent
        if start["status"] != 200 or len(body["body"]) > MOST_BYTES or "route" not in scope:
            return
        state = {"key_id": scope["state"].get("key_id")}
        self._answers[key] = _Answer(start, body, scope["route"], state)


def _key(scope: Scope) -> bytes:
    """Return what the answer depends on beside the database: a digest, which tells no secret."""
    digest = hashlib.sha256(scope["raw_path"])
    digest.update(b"?" + scope["query_string"])
    for name, value in scope["headers"]:
        if name in DECIDING:
            digest.update(b"\n%b: %b" % (name, value))
    return digest.digest()
