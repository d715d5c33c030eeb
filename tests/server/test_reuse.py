"""Rows that the server has are not computed again: whose they may be, and when they are gone."""

from __future__ import annotations

import hashlib
import json
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.exc import OperationalError

from statebridge.engine.run_experiment import RunSummary, run_experiment
from statebridge.experiment.experiment import Experiment
from statebridge.models.pair import Pair
from statebridge.runs.directory import POSITIVE_CONTROL, REUSED, ROWS, read_manifest
from statebridge_server.layout import run_path
from statebridge_server.store import jobs, queue
from statebridge_server.store.database import Database
from statebridge_server.store.jobs import events_after
from statebridge_server.store.keys import LOCAL
from statebridge_server.store.lanes import EarlierLanes
from statebridge_server.store.tables import Job, Lane
from statebridge_server.worker.job_run import JobProgress
from tests.bridge.engine.reuse_runs import computed, experiment_of, tiny_pair

FIELDS: dict[str, Any] = {"limit": 4, "conditions": ["no_inject", "zero_replacement", "nl_relay"]}
LANES = 12


@pytest.fixture(scope="module")
def pair() -> Pair:
    """A loaded pair, as the worker holds one."""
    return tiny_pair()


class Jobs:
    """Carries jobs out as the worker does, in this process."""

    def __init__(self, database: Database, data: Path, pair: Pair) -> None:
        self.database, self.data, self.pair = database, data, pair

    def run(self, owner: str = "ann", *, shared: bool = False, **fields: Any) -> Job:
        """Submit an experiment and run it; return its job after that."""
        experiment = experiment_of({}, **{**FIELDS, **fields})
        new = jobs.NewJob("job", "tiny", {}, 1, (), request_sha256="", shared=shared)
        job, _ = jobs.submit(self.database, owner, new, queue_length=99, jobs_per_key=99)
        taken = queue.take_next(self.database)
        assert taken is not None
        assert taken.id == job.id
        self.carry_out(taken, experiment)
        queue.end(self.database, job.id, "done")
        return self.found(job)

    def carry_out(self, job: Job, experiment: Experiment) -> RunSummary:
        """Run a job, or go on with it."""
        stop = threading.Event()
        return run_experiment(
            experiment,
            self.folder(job),
            pair=self.pair,
            progress=JobProgress(self.database, job.id, stop),
            reuse=EarlierLanes(self.database, job),
        )

    def found(self, job: Job) -> Job:
        """A job in its present state."""
        found = jobs.visible_job(self.database, LOCAL, job.id)
        assert found is not None
        return found

    def folder(self, job: Job) -> Path:
        """A job's run directory."""
        return self.data / run_path(job.id)

    def rows(self, job: Job) -> bytes:
        """A job's committed rows."""
        return (self.folder(job) / ROWS).read_bytes()

    def lanes(self) -> int:
        """How many lanes the store knows."""
        with self.database.read() as session:
            return session.scalar(select(func.count()).select_from(Lane)) or 0


@pytest.fixture
def work(database: Database, tmp_path: Path, pair: Pair) -> Jobs:
    """An empty server's store, of each kind of database."""
    return Jobs(database, tmp_path / "data", pair)


@pytest.fixture
def sqlite_work(tmp_path: Path, pair: Pair) -> Iterator[Jobs]:
    """An empty server's store in SQLite."""
    database = Database(f"sqlite:///{tmp_path / 'jobs.sqlite'}")
    yield Jobs(database, tmp_path / "data", pair)
    database.close()


@pytest.mark.slow
def test_the_same_again_is_taken_whole_and_said(
    work: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = work.run()
    assert (first.lanes_reused, work.lanes()) == (0, LANES)
    with computed(monkeypatch) as groups:
        second = work.run(name="again")
    assert groups == []
    assert (second.lanes_reused, second.lanes_done, second.lanes_total) == (LANES,) * 3
    assert work.rows(second) == work.rows(first)
    manifest = read_manifest(work.folder(second)) or {}
    assert manifest["reused"]["runs"] == {first.id: LANES}
    events = [event.data for event in events_after(work.database, second.id, 0)]
    assert events[-1]["reused"] == LANES
    assert [data["done"] for data in events if data.get("stage") == "reuse"] == [LANES]
    # The first may be deleted: lanes that were reused from it are copies.
    jobs.delete_job(work.database, first.id)
    assert work.lanes() == LANES
    with computed(monkeypatch) as groups:
        third = work.run()
    assert groups == []
    assert work.rows(third) == work.rows(second)


@pytest.mark.slow
def test_of_an_overlapping_one_only_what_is_new_is_computed(
    work: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    work.run()
    with computed(monkeypatch) as groups:
        more = work.run(limit=6, conditions=["no_inject", "b_to_b_self_inject", "zero_replacement"])
    ran = {lane for group in groups for lane in group}
    new = {("b_to_b_self_inject", row) for row in range(6)}
    assert ran == new | {(name, i) for name in ("no_inject", "zero_replacement") for i in (4, 5)}
    assert (more.lanes_reused, more.lanes_total) == (8, 18)


@pytest.mark.slow
def test_nobody_takes_from_others_what_was_not_shared(
    work: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    work.run("ann")
    with computed(monkeypatch) as groups:
        assert work.run("ben").lanes_reused == 0
        assert sum(map(len, groups)) == LANES
        shared = work.run("ann", shared=True, conditions=["b_to_b_self_inject"])
        groups.clear()
        taken = work.run("ben", conditions=["b_to_b_self_inject"])
    assert groups == []
    assert taken.lanes_reused == 4
    assert work.rows(taken) == work.rows(shared)


@pytest.mark.slow
def test_a_deleted_job_leaves_nothing_behind(work: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    first, other = work.run(), work.run("ben")
    jobs.delete_job(work.database, first.id)
    assert work.lanes() == LANES
    with computed(monkeypatch) as groups:
        assert work.run().lanes_reused == 0
    assert sum(map(len, groups)) == LANES
    jobs.delete_job(work.database, other.id)
    assert work.lanes() == LANES


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["a bit", "cut", "empty", "other row"])
def test_damaged_lanes_are_computed_again(
    damage: str, sqlite_work: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = sqlite_work
    first = work.run()
    with work.database.write() as session:
        lanes = list(session.scalars(select(Lane)))
        if damage == "other row":
            lines = {json.loads(zlib.decompress(lane.line))["row_id"]: lane.line for lane in lanes}
            for lane in lanes:
                own = json.loads(zlib.decompress(lane.line))["row_id"]
                lane.line = next(line for row_id, line in lines.items() if row_id != own)
        else:
            for lane in lanes:
                last = bytes([lane.line[-1] ^ 1])
                cut = lane.line[: len(lane.line) // 2]
                lane.line = {"a bit": lane.line[:-1] + last, "cut": cut, "empty": b""}[damage]
    with computed(monkeypatch) as groups:
        second = work.run()
    assert (sum(map(len, groups)), second.lanes_reused) == (LANES, 0)
    assert work.rows(second) == work.rows(first)


def test_a_lane_damaged_in_one_job_is_taken_from_another(
    sqlite_work: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = sqlite_work
    first, _second = work.run(), work.run()
    with work.database.write() as session:
        session.execute(update(Lane).where(Lane.job_number == first.number).values(line=b""))
    with computed(monkeypatch) as groups:
        third = work.run()
    assert groups == []
    assert third.lanes_reused == LANES


@pytest.mark.slow
def test_killed_and_started_again_it_ends_with_the_same_bytes(
    sqlite_work: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = sqlite_work
    first = work.run()
    changes: dict[str, Any] = {
        "limit": 6,
        "conditions": ["no_inject", "zero_replacement", "b_to_b_self_inject"],
    }
    undisturbed = work.run("ben", **changes)  # of ben's nothing is there yet
    assert undisturbed.lanes_reused == 0
    alone = work.run("ann", **changes)
    assert alone.lanes_reused == 8
    jobs.delete_job(work.database, alone.id)

    new = jobs.NewJob("job", "tiny", {}, 1, (), request_sha256="")
    jobs.submit(work.database, "ann", new, queue_length=99, jobs_per_key=99)
    job = queue.take_next(work.database)
    assert job is not None
    experiment = experiment_of({}, **{**FIELDS, **changes})

    def killed(*_: Any) -> None:
        # A group is committed; that it can be found again is not recorded any more.
        raise _KilledError

    with monkeypatch.context() as patch:
        patch.setattr(EarlierLanes, "record", killed)
        with pytest.raises(_KilledError):
            work.carry_out(job, experiment)
    assert (work.folder(job) / REUSED).exists()
    assert work.rows(job)
    jobs.delete_job(work.database, first.id)
    summary = work.carry_out(job, experiment)
    assert 0 < summary.resumed_lanes < summary.lanes
    assert summary.reused_lanes == 8
    assert work.rows(job) == work.rows(alone)
    assert work.found(job).lanes_reused == 8


class _KilledError(BaseException):
    """Not an Exception: nothing may catch it and tidy up, as after `kill -9`."""


def test_rows_stay_where_their_lanes_cannot_be_recorded(
    sqlite_work: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = sqlite_work

    def away(*_: Any) -> None:
        raise OperationalError("insert", {}, Exception("database is locked"))

    with monkeypatch.context() as patch:
        patch.setattr("statebridge_server.store.lanes.insert", away)
        first = work.run()
    assert work.lanes() == 0
    assert work.run().lanes_reused == 0
    assert work.rows(first).count(b"\n") == LANES


def test_a_positive_control_is_taken_too(
    sqlite_work: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = sqlite_work
    control = {"rows": 2, "taught_pair": False}  # which is not taken, but run again in a second
    fields: dict[str, Any] = {"conditions": ["no_inject"], "positive_control": control}
    first = work.run(**fields)
    with computed(monkeypatch) as groups:
        second = work.run(**fields)
    assert groups == []
    files = [work.folder(job) / POSITIVE_CONTROL / ROWS for job in (first, second)]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert second.lanes_reused == 4


def test_a_stored_lane_is_smaller_than_its_row(sqlite_work: Jobs) -> None:
    work = sqlite_work

    def size() -> int:
        with work.database.engine.connect() as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
            return int(pages or 0) * 4096

    first = work.run()
    lines = work.rows(first).splitlines(keepends=True)
    before = size()
    keys = [hashlib.sha256(str(i).encode()).digest() for i in range(3000)]
    lanes = {key: lines[i % len(lines)] for i, key in enumerate(keys)}
    EarlierLanes(work.database, first).record(lanes)
    assert size() - before < 0.85 * sum(map(len, lanes.values()))
