"""The store under several writers at once, on every database that there is."""

from __future__ import annotations

import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from statebridge_server.store import jobs, queue
from statebridge_server.store.database import Database
from statebridge_server.store.jobs import events_after
from statebridge_server.store.keys import Principal
from statebridge_server.store.tables import CorpusHolder, DatasetHolder
from statebridge_server.store.uploads import Held, held, hold, let_go

SHA256 = "0" * 64


def new_job(name: str = "job", **more: Any) -> jobs.NewJob:
    return jobs.NewJob(name, "tiny", {}, 10, (), request_sha256="", **more)


def test_submissions_at_once_are_counted_and_keyed_once(database: Database) -> None:
    def one(place: int) -> str:
        try:
            job, _ = jobs.submit(
                database,
                f"key{place % 2}",
                new_job(idempotency_key=f"same {place % 4}"),
                queue_length=3,
                jobs_per_key=9,
            )
        except jobs.QueueFullError:
            return "full"
        return job.id

    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(one, range(24)))
    assert len(set(found) - {"full"}) == 3
    assert jobs.counts(database)["queued"] == 3


def test_events_written_at_once_have_distinct_numbers(database: Database) -> None:
    job, _ = jobs.submit(database, "ann", new_job(), queue_length=9, jobs_per_key=9)
    queue.take_next(database)

    def note(done: int) -> None:
        queue.note_progress(database, job.id, "run", done, 40, {})

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(note, range(40)))
    numbers = [event.number for event in events_after(database, job.id, 0)]
    assert numbers == list(range(1, 43))


def held_upload(
    kind: type[DatasetHolder | CorpusHolder], owner: str = "ann"
) -> Held[DatasetHolder | CorpusHolder]:
    more: dict[str, Any] = {"name": "x.txt", "passages": 2}
    if kind is DatasetHolder:
        more = {"fields": {"id": None}, "rows": 1, "longest": 5}
    return Held(10, kind(sha256=SHA256, owner=owner, created_at=0.0, **more))


@pytest.mark.parametrize("kind", [DatasetHolder, CorpusHolder])
def test_an_upload_goes_with_the_last_key_that_holds_it(
    database: Database, kind: type[DatasetHolder | CorpusHolder]
) -> None:
    assert hold(database, held_upload(kind))
    assert hold(database, held_upload(kind, "ben"))
    assert not hold(database, held_upload(kind, "ben"))
    other = CorpusHolder if kind is DatasetHolder else DatasetHolder
    assert held(database, other, Principal("ann", "submit")) == []
    assert not let_go(database, kind, "ann", SHA256)
    assert held(database, kind, Principal("ann", "submit")) == []
    assert len(held(database, kind, Principal("ben", "submit"))) == 1
    assert let_go(database, kind, "ben", SHA256)
    assert hold(database, held_upload(kind))


@pytest.mark.slow
@pytest.mark.parametrize("kind", [DatasetHolder, CorpusHolder])
def test_an_upload_is_not_deleted_under_a_submission(
    database: Database, kind: type[DatasetHolder | CorpusHolder]
) -> None:
    """Whichever comes first, no job is queued over an upload that nobody holds."""
    who = Principal("ann", "submit")
    for _ in range(12):
        hold(database, held_upload(kind))
        barrier = threading.Barrier(2)

        def take(start: threading.Barrier = barrier) -> str | None:
            start.wait()
            asked = jobs.NewJob("job", "tiny", {}, 1, ((kind.kind, SHA256),), request_sha256="")
            try:
                job, _ = jobs.submit(database, "ann", asked, queue_length=99, jobs_per_key=99)
            except jobs.WrongStateError:
                return None
            return job.id

        def drop(start: threading.Barrier = barrier) -> bool:
            start.wait()
            try:
                return let_go(database, kind, "ann", SHA256)
            except jobs.WrongStateError:
                return False

        with ThreadPoolExecutor(2) as threads:
            taken, dropped = threads.submit(take), threads.submit(drop)
            job_id, gone = taken.result(), dropped.result()
        assert (job_id is None) == gone
        assert bool(held(database, kind, who)) == (not gone)
        if job_id is not None:
            jobs.cancel(database, job_id)


def test_an_error_that_a_database_cannot_hold_is_escaped(database: Database) -> None:
    job, _ = jobs.submit(database, "ann", new_job(), queue_length=9, jobs_per_key=9)
    queue.take_next(database)
    queue.end(database, job.id, "failed", "a\0b \ud800")
    found = jobs.visible_job(database, Principal("ann", "submit"), job.id)
    assert found is not None
    assert found.error == "a\\x00b \\ud800"
    queue.end(database, job.id, "failed", "again")  # an answer that was lost, asked again
    assert [event.number for event in events_after(database, job.id, 0)] == [1, 2, 3]


def test_a_clock_that_jumps_back_favours_nobody(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in range(3):
        for owner in ("ann", "ben"):
            jobs.submit(database, owner, new_job(f"{owner}{place}"), queue_length=9, jobs_per_key=9)
    clock = iter(10.0**9 - day * 86_400 for day in range(1000))
    monkeypatch.setattr("time.time", lambda: next(clock))
    taken = []
    while (job := queue.take_next(database)) is not None:
        taken.append(job.name)
        queue.end(database, job.id, "done")
    assert taken == ["ann0", "ben0", "ann1", "ben1", "ann2", "ben2"]


def test_a_job_deleted_between_a_look_and_a_lock_is_no_fault(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, _ = jobs.submit(database, "ann", new_job(), queue_length=9, jobs_per_key=9)
    write = database.write

    def late() -> Any:
        monkeypatch.setattr(database, "write", write)
        jobs.cancel(database, job.id)
        jobs.delete_job(database, job.id)
        return write()

    monkeypatch.setattr(database, "write", late)
    assert queue.take_next(database) is None
    with pytest.raises(jobs.WrongStateError, match="deleted"):
        jobs.cancel(database, job.id)


def test_every_commit_changes_the_version_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "jobs.sqlite"
    database = Database(f"sqlite:///{file}")
    seen = [database.version()]
    queue.worker_state(database)
    assert database.version() == seen[0], "reading changes nothing"
    queue.beat(database, 1, "ready", "", {})
    seen.append(database.version())
    with closing(sqlite3.connect(file)) as other:  # as another process writes
        other.execute("DELETE FROM worker")
        other.commit()
    seen.append(database.version())
    assert None not in seen
    assert len(set(seen)) == 3
    database.close()
    assert database.version() is None


def test_other_databases_have_no_version(database: Database) -> None:
    sqlite = database.engine.url.get_backend_name() == "sqlite"
    assert (database.version() is not None) == sqlite
