"""Following an experiment: lost streams, refused streams, servers that are away for a while."""

from __future__ import annotations

from typing import Any

import anyio
import httpx
import pytest

from statebridge.errors import AccessError, BusyError, RunFailedError, ServerError, UnreachableError
from statebridge_client import Event, RemoteRun
from tests.client.answers import Script, answer, problem, status_of, stream

LOST = httpx.ReadError("connection reset")
QUEUED = (1, "state", {"state": "queued", "done": 0, "total": 8})
RUNNING = (2, "state", {"state": "running", "done": 0, "total": 8})
SOME = (
    3,
    "progress",
    {
        "state": "running",
        "stage": "run",
        "done": 4,
        "total": 8,
        "rows_per_second": 2.0,
        "seconds_left": 2.0,
    },
)
DONE = (4, "state", {"state": "done", "done": 8, "total": 8})


class Clock:
    """A clock that only pauses move."""

    def __init__(self) -> None:
        self.now = 1000.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    async def async_sleep(self, seconds: float) -> None:
        self.now += seconds

    def monotonic(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("time.sleep", made.sleep)
    monkeypatch.setattr("anyio.sleep", made.async_sleep)
    monkeypatch.setattr("time.monotonic", made.monotonic)
    return made


def followed(*answers: Any, **options: Any) -> tuple[list[Event], Script]:
    script = Script([answer(status_of("queued")), *answers])
    with script.client(attempts=1) as client:
        return list(client.get("exp_1").events(**options)), script


def ids(events: list[Event]) -> list[str | None]:
    return [event.id for event in events]


def test_a_stream_is_read_to_its_end() -> None:
    events, script = followed(stream(QUEUED, RUNNING, SOME, DONE))
    assert ids(events) == ["1", "2", "3", "4"]
    assert events[2] == Event("progress", "running", "run", 4, 8, 2.0, 2.0, None, "3")
    assert "last-event-id" not in script.requests[1].headers


def test_a_lost_stream_goes_on_after_the_last_event() -> None:
    def cut(_request: httpx.Request) -> httpx.Response:
        def lines() -> Any:
            yield stream(QUEUED, RUNNING).content
            yield b"id: 3\nevent: progress\nda"
            raise LOST

        return httpx.Response(200, content=lines(), headers={"content-type": "text/event-stream"})

    events, script = followed(cut, LOST, stream(SOME), stream(DONE))
    assert ids(events) == ["1", "2", "3", "4"]
    sent = [request.headers.get("last-event-id") for request in script.requests[1:]]
    assert sent == [None, "2", "2", "3"]


def test_latest_begins_with_the_last_event() -> None:
    events, script = followed(LOST, stream(SOME), stream(DONE), latest=True)
    assert ids(events) == ["3", "4"]
    assert [request.url.params.get("latest") for request in script.requests[1:]] == ["true"] * 3


def test_an_end_before_the_experiment_went_on_is_not_the_end() -> None:
    failed = (3, "state", {"state": "failed", "done": 4, "total": 8, "error": "memory"})
    again = (4, "state", {"state": "queued", "done": 4, "total": 8})
    events, _ = followed(stream(QUEUED, RUNNING, failed, again), stream((5, *DONE[1:])))
    assert ids(events) == ["1", "2", "3", "4", "5"]


def test_a_connection_lost_right_after_the_end() -> None:
    def cut(_request: httpx.Request) -> httpx.Response:
        def lines() -> Any:
            yield stream(DONE).content
            raise LOST

        return httpx.Response(200, content=lines(), headers={"content-type": "text/event-stream"})

    events, _ = followed(cut, stream())
    assert ids(events) == ["4"]


def test_a_server_without_room_for_a_stream_is_asked_instead(clock: Clock) -> None:
    began = clock.now
    refused = problem(429, "too many event streams are open", **{"retry-after": "3"})
    events, script = followed(
        refused,
        answer(status_of("running", rows_done=2)),
        answer(status_of("running", rows_done=3)),
        stream(SOME, DONE),
    )
    assert [(event.id, event.done) for event in events] == [
        (None, 2),
        (None, 3),
        ("3", 4),
        ("4", 8),
    ]
    assert clock.now - began == 4.0  # two looks, two seconds apart, before the next attempt
    paths = [request.url.path.removeprefix("/v1/experiments/exp_1") for request in script.requests]
    assert paths == ["", "/events", "", "", "/events"]


def test_a_server_that_goes_away_while_it_is_asked(clock: Clock) -> None:
    began = clock.now
    away = [httpx.ConnectError("refused")] * 9
    events, _ = followed(
        problem(429, **{"retry-after": "3"}), *away, answer(status_of("running")), stream(DONE)
    )
    assert [event.state for event in events][-1] == "done"
    assert clock.now - began > 9


def test_polling_sees_the_end() -> None:
    events, _ = followed(problem(429), answer(status_of("done", rows_done=8)))
    assert [(event.state, event.done) for event in events] == [("done", 8)]


def test_a_server_that_is_away_for_minutes(clock: Clock) -> None:
    away = httpx.ConnectError("refused")
    began = clock.now
    gateway = httpx.Response(502, html="<p>bad gateway")
    events, _ = followed(stream(QUEUED), *[away] * 20, gateway, stream(RUNNING, DONE))
    assert ids(events) == ["1", "2", "4"]
    assert clock.now - began > 200  # pauses grow to 15 s


def test_a_server_that_stays_away(clock: Clock) -> None:
    began = clock.now
    with pytest.raises(UnreachableError, match=r"cannot be reached for \d+ s \(refused\)"):
        followed(stream(QUEUED), *[httpx.ConnectError("refused")] * 99, patience=60.0)
    assert 60 <= clock.now - began <= 90


@pytest.mark.parametrize(("status", "kind"), [(401, AccessError), (500, ServerError)])
def test_what_will_not_pass_ends_it(status: int, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        followed(problem(status))


def test_an_event_that_cannot_be_read() -> None:
    text = "id: 1\nevent: state\ndata: {\n\n"
    broken = httpx.Response(200, text=text, headers={"content-type": "text/event-stream"})
    with pytest.raises(ServerError, match="an event of the server cannot be read"):
        followed(broken)


def test_comments_and_split_data_are_read() -> None:
    text = (
        ': still here\n\nretry: 5\n\nevent:state\nid:7\ndata: {"state":\ndata: "done"}\n\n: x\n\n'
    )
    sent = httpx.Response(200, text=text, headers={"content-type": "text/event-stream"})
    events, _ = followed(sent)
    assert events == [Event("state", "done", id="7")]


def test_a_quiet_stream_counts_as_within_reach(clock: Clock) -> None:
    def quiet_for_an_hour(_request: httpx.Request) -> httpx.Response:
        def lines() -> Any:
            for _ in range(240):
                clock.now += 15
                yield b": still here\n\n"
            raise LOST

        kind = {"content-type": "text/event-stream"}
        return httpx.Response(200, content=lines(), headers=kind)

    events, _ = followed(quiet_for_an_hour, stream(DONE), patience=60.0)
    assert ids(events) == ["4"]


def waiting(*answers: Any) -> RemoteRun:
    script = Script([answer(status_of("queued")), *answers])
    return script.client(attempts=1).get("exp_1")


def test_wait_says_how_it_ended() -> None:
    run = waiting(stream(DONE), answer(status_of("done")))
    assert run.wait(progress=False) is run
    failed = status_of("failed", error="out of memory")
    with pytest.raises(RunFailedError, match=r"exp_1 \(tiny\) failed: out of memory"):
        waiting(stream(DONE), answer(failed)).wait(progress=False)
    with pytest.raises(RunFailedError, match="was cancelled after 3 of 8 rows"):
        waiting(stream(DONE), answer(status_of("cancelled"))).wait(progress=False)


def test_wait_has_a_limit(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    monkeypatch.setattr("time.monotonic", clock.monotonic)
    run = waiting(*[stream(RUNNING)] * 99)
    with pytest.raises(BusyError, match="exp_1 is still running after 30 s"):
        run.wait(progress=False, timeout=30)


def test_the_asynchronous_client_follows_the_same_way() -> None:
    async def work() -> tuple[list[Event], Script]:
        script = Script(
            [
                answer(status_of("queued")),
                stream(QUEUED, RUNNING),
                LOST,
                problem(429, **{"retry-after": "1"}),
                answer(status_of("running", rows_done=2)),
                stream(SOME, DONE),
                stream(DONE),
                answer(status_of("done")),
            ]
        )
        async with script.async_client(attempts=1) as client:
            run = await client.get("exp_1")
            events = [event async for event in run.events()]
            assert await run.wait(progress=False) is run
        return events, script

    events, script = anyio.run(work)
    assert ids(events) == ["1", "2", None, "3", "4"]
    assert script.requests[5].headers["last-event-id"] == "2"
