"""Answers to polling clients, given again as long as the database has not changed.

How an experiment stands is a function of the database, the request and the settings, which stay
as they are while the server runs. So an answer holds until the next commit, whoever makes it: a
revoked key, a cancelled experiment or another group of rows is seen at once. Hundreds of clients
that ask every other second then cost the machine, which has models to run, little.
"""

from __future__ import annotations

import asyncio
import hashlib
import re

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from statebridge_server.api.kept_answers import Answer, KeptAnswers
from statebridge_server.api.repeated_requests import RepeatedRequests

POLLED = re.compile(r"/v1/experiments(/[^/]*)?")
DECIDING = (b"authorization", b"host", b"origin", b"cookie", b"x-forwarded-for")
"""Headers that who asks depends on, or might one day."""

MOST_BYTES = 32_768
"""Of a body that is kept."""


class _Reading:
    """A request that is being answered, of which others wait for the answer.

    Attributes:
        version: Of the database, from before it began.
        answer: What it gave; None where that is for its own client alone.
    """

    __slots__ = ("answer", "version")

    def __init__(self, version: int) -> None:
        self.version = version
        self.answer: asyncio.Future[Answer | None] = asyncio.get_running_loop().create_future()


class AnswerCache:
    """ASGI middleware over reads of experiments; everything else passes through.

    One request of a kind is read at a time; those that ask the same meanwhile wait for its answer.
    After a commit hundreds of clients would else be at work on as many threads, each of them in
    the way of all others and of the event loop.
    """

    def __init__(self, app: ASGIApp, answers: KeptAnswers, repeated: RepeatedRequests) -> None:
        self._app, self._answers, self._repeated = app, answers, repeated
        self._readings: dict[bytes, _Reading] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if not (
            scope["type"] == "http"
            and scope["method"] == "GET"
            and POLLED.fullmatch(scope["path"]) is not None
        ):
            await self._app(scope, receive, send)
            return
        key, version = _key(scope), self._answers.now()
        reading = self._readings.get(key)
        if reading is not None and reading.version != version:
            # Begun before a commit that this client may know of. The next one is begun after it.
            await asyncio.shield(reading.answer)
            version, reading = self._answers.now(), self._readings.get(key)
        answer = self._answers.get(key)
        if answer is None and reading is not None:
            answer = await asyncio.shield(reading.answer)
        if answer is not None:
            await _give(answer, scope, send)
            self._repeated.remember(scope, key)
        elif reading is None and version is not None:
            await self._read(scope, receive, send, version, key)
        else:  # nothing that others may have either
            await self._app(scope, receive, send)

    async def _read(
        self, scope: Scope, receive: Receive, send: Send, version: int, key: bytes
    ) -> None:
        """Pass a request on, and give its answer to those who wait for it or ask later."""
        reading = self._readings[key] = _Reading(version)
        sent: list[Message] = []

        async def send_and_keep(message: Message) -> None:
            sent.append(dict(message))
            if message["type"] == "http.response.start":
                return
            first = len(sent) == 2
            if not message.get("more_body"):
                # Before anything is sent: that may take as long as its client likes.
                self._end(reading, key, _answer(scope, sent))
            if first:
                await send(dict(sent[0]))  # a copy: whoever sends it on adds headers
            await send(message)

        try:
            await self._app(scope, receive, send_and_keep)
        finally:
            self._end(reading, key, None)  # it failed, or was cancelled

    def _end(self, reading: _Reading, key: bytes, answer: Answer | None) -> None:
        if reading.answer.done():
            return
        if answer is not None:
            self._answers.keep(key, answer, reading.version)
        reading.answer.set_result(answer)
        del self._readings[key]


def _answer(scope: Scope, sent: list[Message]) -> Answer | None:
    """Return a whole answer to keep; None for a refusal, which names its request, or a long one."""
    if len(sent) != 2 or "route" not in scope:
        return None
    start, body = sent
    if start["status"] != 200 or len(body["body"]) > MOST_BYTES:
        return None
    return Answer(start, body, scope["route"], scope["state"].get("key_id"))


async def _give(known: Answer, scope: Scope, send: Send) -> None:
    scope["route"] = known.route
    scope["state"].update(key_id=known.key_id, from_memory=True)
    # Copied: whoever sends it on adds headers.
    await send(dict(known.start))
    await send(known.body)


def _key(scope: Scope) -> bytes:
    """Return what the answer depends on beside the database: a digest, which tells no secret."""
    digest = hashlib.sha256(scope["raw_path"])
    digest.update(b"?" + scope["query_string"])
    for name, value in scope["headers"]:
        if name in DECIDING:
            digest.update(b"\n%b: %b" % (name, value))
    return digest.digest()
