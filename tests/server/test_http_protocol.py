"""What comes over the wire is given on whole, once and in order, or refused and not done."""

from __future__ import annotations

import pytest

from statebridge_server.api.http_protocol import MOST_WAITING
from tests.server.test_repeated_requests import PATH, Talk, request, talk

UPGRADE = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c")
POST = "POST {} HTTP/1.1"


def statuses(answer: bytes) -> list[int]:
    return [int(part.split()[0]) for part in answer.split(b"HTTP/1.1 ")[1:]]


@pytest.mark.parametrize("cut", [0, 5, None])
def test_a_wish_for_another_protocol_takes_nothing_of_the_body(cut: int | None) -> None:
    """The body of such a request is its body, and neither lost nor the next request."""

    async def work(made: Talk) -> None:
        body = request("/v1/smuggled")
        post = request("/v1/score", *UPGRADE, f"Content-Length: {len(body)}", line=POST)
        at = len(post) + len(body) if cut is None else len(post) + cut
        content = post + body + request("/v1/behind", *UPGRADE) + request(PATH)
        answer = await made.say(content[:at], content[at:])
        assert made.bodies == [body]
        assert made.asked == ["/v1/score", "/v1/behind", PATH]
        assert statuses(answer) == [200, 200, 200]
        # And as often as it is asked.
        assert statuses(await made.say(content)) == [200, 200, 200]

    talk(work)


@pytest.mark.parametrize(
    "coding", ["identity", "xchunked", "chunked;x", "gzip, chunked", "chunked\r\nX: y", "Chunked"]
)
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_coding_that_is_refused_is_not_given_on(coding: str, version: str) -> None:
    async def work(made: Talk) -> None:
        line = f"DELETE {{}} HTTP/{version}"
        answer = await made.say(request(PATH, f"Transfer-Encoding: {coding}", line=line))
        if coding.lower().startswith("chunked") and ";" not in coding:
            assert made.asked == [PATH]
            return
        assert made.asked == []
        assert statuses(answer) == [400]
        assert b"Transfer-Encoding: give chunked" in answer
        assert made.wire.closing

    talk(work)


def test_a_body_that_breaks_is_answered_once() -> None:
    async def work(made: Talk) -> None:
        post = request("/v1/score", "Transfer-Encoding: chunked", line=POST)
        assert statuses(await made.say(post + b"zz\r\n")) == [400]
        assert made.wire.closing
        made.connect()
        assert statuses(await made.say(post, b"zz\r\n")) == [400]
        assert made.wire.closing
        # Answered before its body came: there is nothing more to say.
        made.connect()
        put = request(PATH, "Transfer-Encoding: chunked", line="PUT {} HTTP/1.1")
        assert statuses(await made.say(put)) == [200]
        assert await made.say(b"zz\r\n") == b""
        assert made.wire.closing

    talk(work)


def test_what_is_in_order_is_answered_before_the_end() -> None:
    async def work(made: Talk) -> None:
        answer = await made.say(request() + request(PATH + "2") + b"\0\0")
        assert statuses(answer) == [200, 200]
        assert made.wire.closing
        assert made.asked == [PATH, PATH + "2"]

    talk(work)


@pytest.mark.parametrize("target", ["http://here", "http://here?x", "http://a:99999999/", "x y"])
def test_a_url_that_is_none_costs_nobody_an_answer(target: str) -> None:
    async def work(made: Talk) -> None:
        assert statuses(await made.say(request(target))) == [400]
        assert made.wire.closing
        made.connect()
        assert (
            statuses(await made.say(request() + request(PATH + "2") + request(target))) == [200] * 2
        )
        assert made.wire.closing

    talk(work)


def test_a_body_that_breaks_waits_for_the_answers_in_front_of_it() -> None:
    async def work(made: Talk) -> None:
        post = request("/v1/score", "Transfer-Encoding: chunked", line=POST)
        answer = await made.say(request() + request(PATH + "2") + post + b"zz\r\n")
        assert statuses(answer) == [200, 200, 400]
        assert made.wire.closing
        assert made.asked == [PATH, PATH + "2"]

    talk(work)


def test_a_trailer_that_closes_does_close() -> None:
    async def work(made: Talk) -> None:
        await made.know(request())
        chunked = request("/v1/score", "Transfer-Encoding: chunked", line=POST)
        end = b"0\r\nConnection: close\r\n\r\n"
        assert statuses(await made.say(chunked + end + request())) == [200]
        assert made.wire.closing
        # Also where the answer was there before the trailer.
        made.connect()
        put = request(PATH, "Transfer-Encoding: chunked", line="PUT {} HTTP/1.1")
        assert statuses(await made.say(put)) == [200]
        assert await made.say(end) == b""
        assert made.wire.closing

    talk(work)


def test_requests_that_wait_are_bounded() -> None:
    async def work(made: Talk) -> None:
        made.protocol.data_received(request("/v1/slow"))
        made.protocol.data_received(request() * 1000)
        assert len(made.protocol.pipeline) == MOST_WAITING
        made.protocol.data_received(request() * 1000)
        assert len(made.protocol.pipeline) == MOST_WAITING
        made.slow.set()
        for _ in range(MOST_WAITING):
            await made.settle()
        assert statuses(made.taken()) == [200] * (1 + MOST_WAITING)
        assert made.wire.closing

    talk(work)


def test_a_connection_that_is_quiet_again_has_its_time_limit() -> None:
    async def work(made: Talk) -> None:
        put = request(PATH, "Content-Length: 3", line="PUT {} HTTP/1.1")
        assert statuses(await made.say(put)) == [200]
        await made.say(b"abc")
        timer = made.protocol.timeout_keep_alive_task
        assert timer is not None
        assert not timer.cancelled()

    talk(work)
