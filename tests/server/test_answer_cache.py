"""An answer is given again only while the database stands still, and only to who got it."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from statebridge_server.api import events
from statebridge_server.api.app import create_app
from statebridge_server.api.context import Server
from statebridge_server.settings import fixed_settings
from statebridge_server.store import jobs, turns
from statebridge_server.store.changes import Changes
from statebridge_server.store.database import Database
from statebridge_server.store.keys import create_key, revoke_key

Ask = Callable[..., Awaitable[httpx.Response]]


def test_the_number_changes_with_every_commit_and_with_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "jobs.sqlite"
    database = Database(f"sqlite:///{file}")
    changes = Changes(database)
    seen = [changes.version()]
    turns.worker_states(database)
    assert changes.version() == seen[0], "reading changes nothing"
    turns.beat(database, 1, "ready", "", {})
    seen.append(changes.version())
    with closing(sqlite3.connect(file)) as other:  # as another process writes
        other.execute("DELETE FROM worker")
        other.commit()
    seen.append(changes.version())
    assert None not in seen
    assert len(set(seen)) == 3
    changes.close()
    assert changes.version() is None
    database.close()


def test_no_number_is_known_of_other_databases() -> None:
    pytest.importorskip("psycopg")
    from sqlalchemy import create_engine

    class Elsewhere:
        engine = create_engine("postgresql+psycopg://nobody@localhost/nothing")

    assert Changes(Elsewhere()).version() is None  # type: ignore[arg-type]


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
                    return await client.get(f"/v1/experiments/{path}", headers=headers)

                await talk(ask)

        asyncio.run(connected())


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    made = Asked(tmp_path / "data", monkeypatch)
    yield made
    made.server.changes.close()
    made.database.close()


def test_the_same_question_is_read_once_until_something_is_committed(asked: Asked) -> None:
    owner, token = asked.key("ann")
    job_id = asked.job(owner)

    async def talk(ask: Ask) -> None:
        answers = [await ask(job_id, token) for _ in range(5)]
        assert asked.reads == 1
        assert len({answer.content for answer in answers}) == 1
        assert answers[0].json()["state"] == "queued"
        # Each is an answer to its own request all the same.
        assert len({answer.headers["x-request-id"] for answer in answers}) == 5
        assert {answer.headers["content-type"] for answer in answers} == {"application/json"}
        jobs.cancel(asked.database, job_id)
        assert (await ask(job_id, token)).json()["state"] == "cancelled"
        assert asked.reads == 2

    asked.run(talk)


def test_nobody_is_given_what_another_key_was_told(asked: Asked) -> None:
    owner, token = asked.key("ann")
    _, stranger = asked.key("bob")
    job_id = asked.job(owner)

    async def talk(ask: Ask) -> None:
        assert (await ask(job_id, token)).status_code == 200
        assert (await ask(job_id, stranger)).status_code == 404
        assert (await ask(job_id, token + "x")).status_code == 401
        assert (await ask(job_id, token)).json()["mine"]

    asked.run(talk)


def test_a_revoked_key_is_refused_at_once(asked: Asked) -> None:
    owner, token = asked.key("ann")
    job_id = asked.job(owner)

    async def talk(ask: Ask) -> None:
        assert [(await ask(job_id, token)).status_code for _ in range(2)] == [200, 200]
        revoke_key(asked.database, owner)
        assert (await ask(job_id, token)).status_code == 401

    asked.run(talk)


def test_a_refusal_is_not_kept(asked: Asked) -> None:
    _, token = asked.key("ann")

    async def talk(ask: Ask) -> None:
        for _ in range(3):
            assert (await ask("exp_none", token)).status_code == 404
        assert asked.reads == 3

    asked.run(talk)


def test_answers_given_again_are_logged_and_counted(
    asked: Asked, caplog: pytest.LogCaptureFixture
) -> None:
    owner, token = asked.key("ann")
    job_id = asked.job(owner)

    async def talk(ask: Ask) -> None:
        for _ in range(3):
            await ask(job_id, token)

    with caplog.at_level(logging.INFO, logger="statebridge.http"):
        asked.run(talk)
    fields = [record.fields for record in caplog.records if record.message == "request"]  # type: ignore[attr-defined]
    assert [(found["status"], found["key"]) for found in fields] == [(200, owner)] * 3
    counted = asked.app.state.registry.get_sample_value(
        "statebridge_http_requests_total",
        {"method": "GET", "route": "/v1/experiments/{experiment_id}", "status": "200"},
    )
    assert counted == 3


def test_streams_at_one_place_share_a_reading(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
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
            turns.take_next(asked.database)
            for done in range(5):
                turns.note_progress(asked.database, job_id, "run", done, 8, {})
                await asyncio.sleep(0.4)
            turns.end(asked.database, job_id, "done")
            told = await asyncio.gather(*streams)
        assert len(set(told)) == 1
        (text,) = set(told)
        numbers = [int(line[4:]) for line in text.splitlines() if line.startswith("id: ")]
        assert numbers == list(range(1, 9))
        # Each stream looks for itself where it begins; six of them then read as one or two do.
        assert len(reads) < 6 + 6 * 7

    asyncio.run(asyncio.wait_for(talk(), 60))
