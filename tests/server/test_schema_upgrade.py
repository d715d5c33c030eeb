"""A database of an earlier version is brought up to this one, and keeps what it held."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import inspect, text

from statebridge.errors import EnvironmentFault
from statebridge_server.store import jobs
from statebridge_server.store.database import Database
from statebridge_server.store.keys import Principal
from statebridge_server.store.lanes import EarlierLanes
from statebridge_server.store.tables import SCHEMA, CorpusHolder, DatasetHolder, Job
from statebridge_server.store.uploads import Held, held, hold, let_go

ANN = Principal("ann", "submit")


def dataset() -> Held[DatasetHolder]:
    return Held(
        10,
        DatasetHolder(
            sha256="a" * 64,
            owner="ann",
            fields={"id": "k", "context": "c", "question": "q", "answer": "a"},
            rows=3,
            longest=5,
            created_at=7.5,
        ),
    )


def corpus() -> Held[CorpusHolder]:
    return Held(
        20,
        CorpusHolder(sha256="b" * 64, owner="ann", name="x.txt", passages=4, created_at=8.5),
    )


@pytest.mark.slow
@pytest.mark.parametrize("version", [2, 3, 4, 5])
def test_a_database_of_an_earlier_version_is_brought_up(database_url: str, version: int) -> None:
    old = Database(database_url)
    hold(old, dataset())
    asked = jobs.NewJob("job", "tiny", {}, 1, (("dataset", "a" * 64),), request_sha256="")
    job, _ = jobs.submit(old, "ann", asked, queue_length=9, jobs_per_key=9)
    with old.write() as session:
        if version < 5:
            session.execute(text("DROP TABLE lanes"))
            session.execute(text("CREATE TABLE lanes (key INTEGER, job_number INTEGER)"))
            session.execute(text("INSERT INTO lanes VALUES (1, 1)"))
        if version < 4:
            session.execute(text("DROP TABLE corpus_holders"))
            session.execute(text("DROP TABLE corpora"))
        if version > 2:
            session.execute(text("ALTER TABLE jobs ADD COLUMN slot INTEGER"))
        session.execute(text(f"UPDATE schema_version SET version = {version}"))
    old.close()

    with ThreadPoolExecutor(3) as threads:  # as server, worker and command line may at once
        opened = list(threads.map(Database, [database_url] * 3))
    database = opened[0]
    with database.read() as session:
        assert session.execute(text("SELECT version FROM schema_version")).all() == [(SCHEMA,)]
    names = set(inspect(database.engine).get_table_names())
    assert {"corpora", "corpus_holders"} <= names
    assert "slot" not in {each["name"] for each in inspect(database.engine).get_columns("jobs")}
    key, later = b"k" * 32, Job(number=job.number + 1, id="later", owner="ann")
    EarlierLanes(database, job).record({key: b"line"})
    assert EarlierLanes(database, later).lookup([key]) == {key: (b"line", job.id)}

    (kept,) = held(database, DatasetHolder, ANN)
    expected = dataset()
    assert kept.bytes == expected.bytes
    for column in ("sha256", "owner", "fields", "rows", "longest", "created_at"):
        assert getattr(kept.holder, column) == getattr(expected.holder, column)
    with pytest.raises(jobs.WrongStateError, match=job.id):
        let_go(database, DatasetHolder, "ann", "a" * 64)
    assert hold(database, corpus())
    assert [each.holder.name for each in held(opened[2], CorpusHolder, ANN)] == ["x.txt"]
    for each in opened:
        each.close()


def test_several_processes_may_make_the_tables_at_once(database_url: str) -> None:
    with ThreadPoolExecutor(4) as threads:
        opened = list(threads.map(Database, [database_url] * 4))
    assert hold(opened[0], dataset())
    assert len(held(opened[3], DatasetHolder, ANN)) == 1
    for each in opened:
        each.close()


@pytest.mark.parametrize("version", [1, 7])
def test_tables_of_an_unknown_version_are_left_as_they_are(database_url: str, version: int) -> None:
    database = Database(database_url)
    with database.write() as session:
        session.execute(text("DROP TABLE corpus_holders"))
        session.execute(text(f"UPDATE schema_version SET version = {version}"))
    with pytest.raises(EnvironmentFault, match=f"version {version}, this server needs {SCHEMA}"):
        Database(database_url)
    assert "corpus_holders" not in inspect(database.engine).get_table_names()
    database.close()
