"""Polls and event streams share database reads, each key within its own view."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from statebridge_server.api.app import create_app
from statebridge_server.api.context import Server
from statebridge_server.api.v1 import events
from statebridge_server.settings import fixed_settings
from statebridge_server.store import jobs, queue
from statebridge_server.store.database import Database
from statebridge_server.store.keys import create_key, revoke_key

Ask = Callable[..., Awaitable[httpx.Response]]


class Held:
    """A read that has begun and has not ended."""

    def __init__(self) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.error: Exception | None = None

    async def beginning(self) -> None:
        """Wait until it has begun."""
        assert await asyncio.to_thread(self.begun.wait, 30)


class Asked:
    """An application without a worker, its reads of jobs counted."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.app = create_app(fixed_settings({"data": folder}))
        self.server: Server = self.app.state.server
        self.database = self.server.database
        self.reads = 0
        read = jobs.visible_job

        def counted(*given: Any) -> Any:
            self.reads += 1
            return read(*given)

        monkeypatch.setattr(jobs, "visible_job", counted)

    def hold(self, monkeypatch: pytest.MonkeyPatch) -> Held:
        """Let the next read of a job, which is of this moment, take as long as is wanted."""
        held, read = Held(), jobs.visible_job

        def later(*given: Any) -> Any:
            found = read(*given)
            if not held.begun.is_set():
                held.begun.set()
                assert held.go_on.wait(30)
                if held.error is not None:
                    raise held.error
            return found

        monkeypatch.setattr(jobs, "visible_job", later)
        return held

    def key(self, name: str) -> tuple[str, str]:
        """Make a key; its id and token."""
        token, key = create_key(self.database, name, "submit")
        return key.id, token

    def job(self, owner: str) -> str:
        new = jobs.NewJob("mine", "tiny", {"dataset": {}}, 8, (), "")
        job, _ = jobs.submit(self.database, owner, new, queue_length=9, jobs_per_key=9)
        return job.id

    def run(self, talk: Callable[[Ask], Awaitable[None]]) -> None:
        async def connected() -> None:
            transport = httpx.ASGITransport(app=self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:

                async def ask(path: str, token: str, **headers: str) -> httpx.Response:
                    headers["Authorization"] = f"Bearer {token}"
                    return await client.get(f"/v1/experiments{path}", headers=headers)

                await talk(ask)

        asyncio.run(connected())


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    made = Asked(tmp_path / "data", monkeypatch)
    yield made
    made.database.close()


def test_a_question_is_read_once_until_the_next_commit(asked: Asked) -> None:
    owner, token = asked.key("ann")
    job_id = asked.job(owner)

    async def talk(ask: Ask) -> None:
        answers = [await ask(f"/{job_id}", token) for _ in range(5)]
        assert asked.reads == 1
        assert len({answer.content for answer in answers}) == 1
        assert answers[0].json()["state"] == "queued"
        # Each answer still has the id of its own request.
        ids = [answer.headers.get_list("x-request-id") for answer in answers]
        assert {len(each) for each in ids} == {1}
        assert len({each[0] for each in ids}) == 5
        assert {answer.headers["content-type"] for answer in answers} == {"application/json"}
        jobs.cancel(asked.database, job_id)
        assert (await ask(f"/{job_id}", token)).json()["state"] == "cancelled"
        assert asked.reads == 2

    asked.run(talk)


def test_an_answer_is_not_shared_with_another_key(asked: Asked) -> None:
    owner, token = asked.key("ann")
    _, stranger = asked.key("bob")
    job_id = asked.job(owner)

    async def talk(ask: Ask) -> None:
        assert (await ask(f"/{job_id}", token)).status_code == 200
        assert (await ask(f"/{job_id}", stranger)).status_code == 404
        assert (await ask(f"/{job_id}", token + "x")).status_code == 401
        assert (await ask(f"/{job_id}", token)).json()["mine"]

    asked.run(talk)


def test_a_revoked_key_is_refused_at_once(asked: Asked) -> None:
    owner, token = asked.key("ann")
    job_id = asked.job(owner)

    async def talk(ask: Ask) -> None:
        assert [(await ask(f"/{job_id}", token)).status_code for _ in range(2)] == [200, 200]
        revoke_key(asked.database, owner)
        assert (await ask(f"/{job_id}", token)).status_code == 401

    asked.run(talk)


def test_a_refusal_is_not_kept(asked: Asked) -> None:
    _, token = asked.key("ann")

    async def talk(ask: Ask) -> None:
        for _ in range(3):
            assert (await ask("/exp_none", token)).status_code == 404
        assert asked.reads == 3

    asked.run(talk)


def test_one_of_many_simultaneous_requests_reads(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, token = asked.key("ann")
    _, stranger = asked.key("bob")
    job_id = asked.job(owner)
    held = asked.hold(monkeypatch)

    async def talk(ask: Ask) -> None:
        many = [asyncio.create_task(ask(f"/{job_id}", token)) for _ in range(20)]
        await held.beginning()
        # Another key, or another question, does not wait for that read.
        assert (await ask(f"/{job_id}", stranger)).status_code == 404
        assert (await ask("?limit=9", token)).status_code == 200
        reads = asked.reads
        held.go_on.set()
        answers = await asyncio.gather(*many)
        assert asked.reads == reads
        assert {answer.status_code for answer in answers} == {200}
        assert len({answer.content for answer in answers}) == 1
        assert len({answer.headers["x-request-id"] for answer in answers}) == 20

    asked.run(talk)


def test_a_request_after_a_commit_sees_it(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, token = asked.key("ann")
    job_id = asked.job(owner)
    held = asked.hold(monkeypatch)

    async def talk(ask: Ask) -> None:
        early = asyncio.create_task(ask(f"/{job_id}", token))
        await held.beginning()
        jobs.cancel(asked.database, job_id)
        late = [asyncio.create_task(ask(f"/{job_id}", token)) for _ in range(10)]
        await asyncio.sleep(0.2)
        held.go_on.set()
        assert (await early).json()["state"] == "queued"
        answers = await asyncio.gather(*late)
        assert {answer.json()["state"] for answer in answers} == {"cancelled"}
        assert asked.reads == 2, "one before the commit, one after it"
        assert (await ask(f"/{job_id}", token)).json()["state"] == "cancelled"

    asked.run(talk)


@pytest.mark.parametrize("how", ["fails", "is cancelled"])
def test_a_read_that_fails_or_is_abandoned_is_not_kept(
    asked: Asked, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    owner, token = asked.key("ann")
    job_id = asked.job(owner)
    held = asked.hold(monkeypatch)

    async def talk(ask: Ask) -> None:
        first = asyncio.create_task(ask(f"/{job_id}", token))
        await held.beginning()
        others = [asyncio.create_task(ask(f"/{job_id}", token)) for _ in range(5)]
        await asyncio.sleep(0.2)
        if how == "fails":
            held.error = ZeroDivisionError()
        else:
            first.cancel()
        held.go_on.set()
        answers = await asyncio.wait_for(asyncio.gather(*others), 30)
        # Those that waited for the failed read fail with it.
        assert {answer.status_code for answer in answers} == {500 if how == "fails" else 200}
        if how == "fails":
            assert (await first).status_code == 500
        else:
            with pytest.raises(asyncio.CancelledError):
                await first
        assert (await ask(f"/{job_id}", token)).status_code == 200

    asked.run(talk)


def test_a_client_that_disconnects_cancels_no_shared_read(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, token = asked.key("ann")
    job_id = asked.job(owner)
    held = asked.hold(monkeypatch)

    async def talk(ask: Ask) -> None:
        first = asyncio.create_task(ask(f"/{job_id}", token))
        await held.beginning()
        goes, stays = (asyncio.create_task(ask(f"/{job_id}", token)) for _ in range(2))
        await asyncio.sleep(0.2)
        goes.cancel()
        await asyncio.sleep(0)
        held.go_on.set()
        answers = await asyncio.wait_for(asyncio.gather(first, stays), 30)
        assert [answer.status_code for answer in answers] == [200, 200]
        assert asked.reads == 1

    asked.run(talk)


def test_a_client_that_stops_reading_delays_nobody(asked: Asked) -> None:
    owner, token = asked.key("ann")
    job_id = asked.job(owner)
    path, bearer = f"/v1/experiments/{job_id}", f"Bearer {token}".encode()

    async def talk(ask: Ask) -> None:
        stalled, free = asyncio.Event(), asyncio.Event()

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            # As a connection does whose other end does not read: from the first message on.
            stalled.set()
            await free.wait()

        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET",
            "scheme": "http", "path": path, "raw_path": path.encode(), "query_string": b"",
            "root_path": "", "client": ("127.0.0.1", 1), "server": ("here", 80), "state": {},
            "headers": [
                (b"host", b"here"), (b"accept", b"*/*"), (b"accept-encoding", b"gzip, deflate"),
                (b"connection", b"keep-alive"), (b"user-agent", b"python-httpx"),
                (b"authorization", bearer),
            ],
        }  # fmt: skip
        slow = asyncio.create_task(asked.app(scope, receive, send))
        await asyncio.wait_for(stalled.wait(), 30)
        answer = await asyncio.wait_for(ask(f"/{job_id}", token), 30)
        assert answer.status_code == 200
        assert asked.reads == 1, "the one that does not read its answer has read the job"
        free.set()
        await slow

    asked.run(talk)


def test_polls_are_logged_at_debug_and_refusals_at_info(
    asked: Asked, caplog: pytest.LogCaptureFixture
) -> None:
    owner, token = asked.key("ann")
    job_id = asked.job(owner)

    async def talk(ask: Ask) -> None:
        for path in (f"/{job_id}", "", "/exp_none"):
            await ask(path, token)

    with caplog.at_level(logging.DEBUG, logger="statebridge.http"):
        asked.run(talk)
    records = [record for record in caplog.records if record.message == "request"]
    assert [record.levelname for record in records] == ["DEBUG", "DEBUG", "INFO"]
    fields = [record.fields for record in records]  # type: ignore[attr-defined]
    assert [(found["status"], found["key"]) for found in fields] == [
        (200, owner),
        (200, owner),
        (404, owner),
    ]
    route = {"route": "/v1/experiments/{experiment_id}"}
    counted = asked.app.state.registry.get_sample_value
    answered = {"method": "GET", "status": "200"} | route
    assert counted("statebridge_http_requests_total", answered) == 1


def test_event_streams_share_their_reads(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, token = asked.key("ann")
    job_id = asked.job(owner)
    reads: list[int] = []
    read = events.events_after

    def counted(database: Database, job: str, after: int) -> Any:
        reads.append(after)
        return read(database, job, after)

    monkeypatch.setattr(events, "events_after", counted)

    async def follow(client: httpx.AsyncClient) -> str:
        answer = await client.get(
            f"/v1/experiments/{job_id}/events", headers={"Authorization": f"Bearer {token}"}
        )
        return answer.text

    async def talk() -> None:
        transport = httpx.ASGITransport(app=asked.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            streams = [asyncio.create_task(follow(client)) for _ in range(6)]
            await asyncio.sleep(1.0)
            before = len(reads)
            await asyncio.sleep(1.0)
            assert len(reads) == before, "nothing was committed, and it was read all the same"
            queue.take_next(asked.database)
            for done in range(5):
                queue.note_progress(asked.database, job_id, "run", done, 8, {})
                await asyncio.sleep(0.4)
            queue.end(asked.database, job_id, "done")
            texts = await asyncio.gather(*streams)
        assert len(set(texts)) == 1
        (text,) = set(texts)
        numbers = [int(line[4:]) for line in text.splitlines() if line.startswith("id: ")]
        assert numbers == list(range(1, 9))
        # One read begins with every event; each of seven commits may be seen on two sides.
        assert len(reads) <= 2 * 9

    asyncio.run(asyncio.wait_for(talk(), 60))
