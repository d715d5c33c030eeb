"""Known bytes are answered as if they had been parsed, where nothing else is under way."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn
from prometheus_client import CollectorRegistry
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from statebridge_server.api.answer_cache import AnswerCache
from statebridge_server.api.http_protocol import REPEATED, BoundedProtocol
from statebridge_server.api.kept_answers import KeptAnswers
from statebridge_server.api.repeated_requests import LONGEST, RepeatedRequests
from statebridge_server.api.requests import RequestContext, RequestMetrics
from tests.server.conftest import tiny_experiment
from tests.server.running_server import RunningServer

PATH = "/v1/experiments/exp_1"
ROUTE = "/v1/experiments/{experiment_id}"


def request(path: str = PATH, *headers: str, line: str = "GET {} HTTP/1.1") -> bytes:
    lines = (line.format(path), "Host: here", "Authorization: Bearer ann", *headers, "", "")
    return "\r\n".join(lines).encode("ascii")


class Wire(asyncio.Transport):
    """A connection whose other end is the test."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 5), "sockname": ("127.0.0.1", 6)})
        self.sent = b""
        self.closing = False

    def write(self, data: Any) -> None:
        assert not self.closing
        self.sent += data

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class Talk:
    """One connection to an application that says how often it was asked."""

    def __init__(self) -> None:
        self.version: int | None = 1
        self.asked: list[str] = []
        self.bodies: list[bytes] = []
        self.slow = asyncio.Event()
        self.metrics = RequestMetrics(CollectorRegistry())
        answers = KeptAnswers(SimpleNamespace(version=lambda: self.version))  # type: ignore[arg-type]
        self.repeated = RepeatedRequests(answers, self.metrics)
        cache = AnswerCache(self._application, answers, self.repeated)
        config = uvicorn.Config(
            RequestContext(cache, self.metrics), log_config=None, access_log=False, ws="none"
        )
        self.config, self.state = config, ServerState()
        self.state.default_headers = [(b"date", b"today")]
        self.connect()

    def connect(self) -> None:
        """Open a connection in the place of the one that there was."""
        self.wire = Wire()
        self.protocol = BoundedProtocol(self.config, self.state, {REPEATED: self.repeated})
        self.protocol.connection_made(self.wire)

    async def _application(self, scope: Scope, receive: Receive, send: Send) -> None:
        asking = Request(scope, receive)
        self.asked.append(asking.url.path)
        if asking.method == "POST":
            self.bodies.append(await asking.body())
        if asking.url.path.endswith("slow"):
            await self.slow.wait()
        scope["route"] = SimpleNamespace(path=ROUTE)
        scope["state"]["key_id"] = "ann"
        said = {"count": len(self.asked), "who": asking.headers["authorization"]}
        await JSONResponse(said)(scope, receive, send)

    async def settle(self) -> None:
        for _ in range(20):
            await asyncio.sleep(0)

    def taken(self) -> bytes:
        """What was sent since the last time."""
        sent, self.wire.sent = self.wire.sent, b""
        return sent

    async def say(self, *pieces: bytes) -> bytes:
        """Send pieces, one after another, and return what is answered."""
        for piece in pieces:
            self.protocol.data_received(piece)
        await self.settle()
        return self.taken()

    async def know(self, content: bytes) -> bytes:
        """Let a request become known; return an answer to it that was not from its bytes."""
        await self.say(content)
        return await self.say(content)

    def count(self, name: str) -> float:
        return sum(
            sample.value
            for metric in getattr(self.metrics, name).collect()
            for sample in metric.samples
            if sample.name.endswith(("_total", "_count"))
        )


def talk(work: Callable[[Talk], Awaitable[None]]) -> None:
    async def connected() -> None:
        made = Talk()
        await work(made)
        made.protocol.connection_lost(None)

    asyncio.run(asyncio.wait_for(connected(), 30))


def without_id(answer: bytes) -> bytes:
    return re.sub(rb"x-request-id: [0-9a-f]{16}\r\n", b"x-request-id: *\r\n", answer)


def test_known_bytes_are_answered_at_once_and_alike() -> None:
    async def work(made: Talk) -> None:
        parsed = await made.know(request())
        made.protocol.data_received(request())
        at_once = made.taken()  # the event loop has not run
        assert without_id(at_once) == without_id(parsed)
        assert at_once != parsed, "each answer has an id of its own"
        assert at_once.count(b"x-request-id: ") == at_once.count(b"nosniff") == 1
        assert at_once.startswith(b"HTTP/1.1 200 OK\r\ndate: today\r\n")
        assert made.asked == [PATH]
        assert [made.count(name) for name in ("count", "from_memory", "seconds")] == [3, 2, 3]
        assert made.state.total_requests == 3
        assert made.protocol.timeout_keep_alive_task is not None
        # And on another connection, which has seen nothing yet.
        made.connect()
        made.protocol.data_received(request())
        assert without_id(made.taken()) == without_id(parsed)
        await made.say(request(PATH + "2"))
        assert made.asked == [PATH, PATH + "2"]

    talk(work)


def test_a_commit_ends_it(caplog: pytest.LogCaptureFixture) -> None:
    async def work(made: Talk) -> None:
        await made.know(request())
        made.version = 2
        made.protocol.data_received(request())
        assert made.taken() == b""
        await made.settle()
        assert b'"count":2' in made.taken()
        made.protocol.data_received(request())  # known, and read again
        assert b'"count":2' in made.taken()
        made.version = None
        for count in (3, 4):
            assert f'"count":{count}'.encode() in await made.say(request())

    talk(work)
    assert not caplog.records


@pytest.mark.parametrize(
    "content",
    [
        request(PATH, "X-Request-Id: mine"),
        request(PATH, "Expect: 100-continue"),
        request(PATH, "Upgrade: websocket", "Connection: Upgrade"),
        request(PATH, "Connection: close"),
        request(line="GET {} HTTP/1.0"),
        request(line="HEAD {} HTTP/1.1"),
        request(line="POST {} HTTP/1.1"),
        request(PATH, f"X: {'a' * LONGEST}"),
        request() * 2,
        request() + b"GET",
        request()[:-2],
        request("/v1/pairs"),
    ],
)
def test_bytes_that_are_no_plain_question_are_not_known(content: bytes) -> None:
    async def work(made: Talk) -> None:
        for _ in range(3):  # on connections of their own, which may have been closed
            await made.say(content)
            made.connect()
        assert made.repeated.answer(content, ()) is None
        await made.know(request())
        assert made.repeated.answer(request(), ()) is not None

    talk(work)


def test_an_id_of_the_clients_own_is_answered_with() -> None:
    async def work(made: Talk) -> None:
        for _ in range(3):
            answer = await made.say(request(PATH, "X-Request-Id: mine"))
            assert b"x-request-id: mine\r\n" in answer

    talk(work)


def test_who_asks_is_part_of_the_bytes() -> None:
    async def work(made: Talk) -> None:
        await made.know(request())
        answer = await made.say(request().replace(b"Bearer ann", b"Bearer ben"))
        assert b'"who":"Bearer ben"' in answer

    talk(work)


def test_pieces_are_put_together() -> None:
    async def work(made: Talk) -> None:
        whole = await made.know(request())
        for at in (1, 20, len(request()) - 1):
            answer = await made.say(request()[:at], request()[at:])
            assert without_id(answer) == without_id(whole)
        answer = await made.say(request() + request())
        assert without_id(answer) == without_id(whole) * 2

    talk(work)


def test_known_bytes_within_a_body_are_a_body() -> None:
    """Else whoever writes a body that a proxy passes on would be answered in another's place."""

    async def work(made: Talk) -> None:
        await made.know(request())
        known = request()
        post = request("/v1/score", f"Content-Length: {len(known)}", line="POST {} HTTP/1.1")
        answer = await made.say(post, known)
        assert made.bodies == [known]
        assert answer.count(b"HTTP/1.1 ") == 1
        chunked = request("/v1/score", "Transfer-Encoding: chunked", line="POST {} HTTP/1.1")
        size = f"{len(known):x}\r\n".encode("ascii")
        answer = await made.say(chunked, size, known, b"\r\n0\r\n\r\n")
        assert made.bodies == [known, known]
        assert answer.count(b"HTTP/1.1 ") == 1

    talk(work)


def test_known_bytes_wait_for_the_answer_in_front_of_them() -> None:
    async def work(made: Talk) -> None:
        await made.know(request())
        assert await made.say(request("/v1/slow"), request()) == b""
        made.slow.set()
        await made.settle()
        first, second = made.taken().split(b"HTTP/1.1 200 OK")[1:]
        assert b'"count":2' in first
        assert b'"count":1' in second

    talk(work)


def test_a_client_that_takes_nothing_up_is_given_nothing_more() -> None:
    async def work(made: Talk) -> None:
        await made.know(request())
        made.protocol.pause_writing()
        assert await made.say(request()) == b""
        made.protocol.resume_writing()
        await made.settle()
        assert made.taken().count(b"HTTP/1.1 200 OK") == 1

    talk(work)


def test_nothing_is_answered_behind_the_end() -> None:
    async def work(made: Talk) -> None:
        await made.know(request())
        await made.say(request(PATH, "Connection: close"))
        assert made.wire.closing
        assert await made.say(request()) == b""

    talk(work)


def test_over_a_socket(paused_server: RunningServer) -> None:
    with paused_server.client() as client:
        job = client.post("/v1/experiments", json=tiny_experiment()).json()["id"]
        content = (
            f"GET /v1/experiments/{job} HTTP/1.1\r\nHost: 127.0.0.1:{paused_server.port}\r\n\r\n"
        ).encode("ascii")
        with socket.create_connection(("127.0.0.1", paused_server.port), timeout=60) as raw:

            def ask() -> tuple[bytes, bytes]:
                raw.sendall(content)
                answer = b""
                while b"\r\n\r\n" not in answer:
                    answer += raw.recv(65_536)
                top, _, body = answer.partition(b"\r\n\r\n")
                found = re.search(rb"content-length: (\d+)", top)
                assert found is not None
                while len(body) < int(found[1]):
                    body += raw.recv(65_536)
                return top, body

            answers = [ask() for _ in range(20)]
            assert {top.split(b"\r\n")[0] for top, _ in answers} == {b"HTTP/1.1 200 OK"}
            assert len({body for _, body in answers}) == 1
            ids = {re.search(rb"x-request-id: (\S+)", top)[1] for top, _ in answers}  # type: ignore[index]
            assert len(ids) == 20
            client.post(f"/v1/experiments/{job}/cancel").raise_for_status()
            assert b'"state":"cancelled"' in ask()[1]
            counted = client.get("/metrics").text
            client.delete(f"/v1/experiments/{job}").raise_for_status()
            assert ask()[0].startswith(b"HTTP/1.1 404 ")
    name = f'statebridge_http_answers_from_memory_total{{route="{ROUTE}"}}'
    assert float(counted.split(name)[1].split("\n")[0]) >= 10
