"""The order of turns, and the fate of a job whose worker died."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from statebridge.errors import EnvironmentFault, InputError
from statebridge_server.store import jobs, queue
from statebridge_server.store.database import Database
from statebridge_server.store.jobs import events_after
from statebridge_server.store.keys import Principal
from statebridge_server.store.tables import SCHEMA, Job, SchemaVersion


def enqueue(database: Database, owner: str, name: str = "job", **more: Any) -> str:
    new = jobs.NewJob(name, "tiny", {}, 10, (), request_sha256="", **more)
    job, _ = jobs.submit(database, owner, new, queue_length=100, jobs_per_key=100)
    return job.id


def find(database: Database, job_id: str) -> Job:
    job = jobs.visible_job(database, Principal("x", "admin"), job_id)
    assert job is not None
    return job


def take_all(database: Database) -> list[str]:
    taken = []
    while (job := queue.take_next(database)) is not None:
        taken.append(job.name)
        queue.end(database, job.id, "done")
    return taken


def test_keys_take_turns_however_many_jobs_one_has(database: Database) -> None:
    for place in range(4):
        enqueue(database, "ann", f"ann{place}", priority=100)
    enqueue(database, "ben", "ben0")
    enqueue(database, "ben", "ben1")
    enqueue(database, "cat", "cat0", priority=-100)
    assert take_all(database) == ["ann0", "ben0", "cat0", "ann1", "ben1", "ann2", "ann3"]


def test_priority_orders_the_jobs_of_one_key(database: Database) -> None:
    for name, priority in (("low", -1), ("first", 0), ("second", 0), ("high", 5)):
        enqueue(database, "ann", name, priority=priority)
    assert take_all(database) == ["high", "first", "second", "low"]


def test_the_queue_continues_after_a_job_that_kills_workers(database: Database) -> None:
    poison = enqueue(database, "ann", "poison")
    other = enqueue(database, "ann", "other", priority=-1)
    for death in (1, 2, 3):
        job = queue.take_next(database)
        assert job is not None
        assert job.id == poison
        (left,) = queue.recover(database, f"signal {death}")
        assert left.state == ("failed" if death == 3 else "queued")
    failed = find(database, poison)
    assert failed.error is not None
    assert "died 3 times" in failed.error
    assert "signal 3" in failed.error
    following = queue.take_next(database)
    assert following is not None
    assert following.id == other
    again = jobs.resume(database, poison, queue_length=9, jobs_per_key=9)
    assert (again.state, again.failed_workers, again.error) == ("queued", 0, None)


def test_deaths_count_only_while_nothing_is_committed(database: Database) -> None:
    job_id = enqueue(database, "ann")
    for done in range(1, 8):
        queue.take_next(database)
        queue.note_progress(database, job_id, "run", done, 10, {})
        (left,) = queue.recover(database, "signal SIGKILL")
        assert (left.state, left.failed_workers) == ("queued", 1)


def test_a_worker_that_is_told_to_stop_costs_nothing(database: Database) -> None:
    job_id = enqueue(database, "ann")
    for _ in range(5):
        queue.take_next(database)
        queue.put_back(database)
        assert queue.recover(database, "x") == []
    assert (find(database, job_id).state, find(database, job_id).failed_workers) == ("queued", 0)


def test_a_cancelled_job_whose_worker_died_is_cancelled(database: Database) -> None:
    job_id = enqueue(database, "ann")
    queue.take_next(database)
    assert jobs.cancel(database, job_id).state == "running"
    assert queue.note_progress(database, job_id, "run", 1, 10, {})
    (left,) = queue.recover(database, "x")
    assert left.state == "cancelled"


def test_events_are_numbered_without_gaps(database: Database) -> None:
    job_id = enqueue(database, "ann")
    queue.take_next(database)
    for done in range(1, 4):
        queue.note_progress(database, job_id, "run", done, 10, {"rows_per_second": 2.0})
    queue.end(database, job_id, "failed", "why")
    events = events_after(database, job_id, 0)
    assert [event.number for event in events] == [1, 2, 3, 4, 5, 6]
    assert [event.data["state"] for event in events] == ["queued", *["running"] * 4, "failed"]
    assert events[-1].data["error"] == "why"
    assert [event.number for event in events_after(database, job_id, 4)] == [5, 6]


def test_a_failed_write_leaves_nothing(database: Database) -> None:
    job_id = enqueue(database, "ann")

    def fail_halfway() -> None:
        with database.write() as session:
            jobs.locked(session, job_id).state = "done"
            session.flush()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_halfway()
    assert find(database, job_id).state == "queued"


def test_a_database_of_another_version_or_kind_is_refused(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'later.sqlite'}"
    database = Database(url)
    with database.write() as session:
        session.get_one(SchemaVersion, SCHEMA).version = 99
    database.close()
    with pytest.raises(EnvironmentFault, match="version 99"):
        Database(url)
    with pytest.raises(InputError, match="database_url"):
        Database("nonsense")
    with pytest.raises(EnvironmentFault, match="cannot be used"):
        Database(f"sqlite:///{tmp_path / 'no' / 'folder.sqlite'}")
