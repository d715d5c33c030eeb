"""The record and the events of a job while it and its controls run."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from statebridge_server.store import queue
from statebridge_server.store.jobs import NewJob, events_after, submit, visible_job
from statebridge_server.store.keys import LOCAL
from statebridge_server.worker.job_run import JobProgress, StoppedError
from tests.server.conftest import tiny_experiment
from tests.server.running_server import RunningServer, ended
from tests.server.running_server import submit as submitted


def started(database: Any, lanes: int) -> str:
    new = NewJob("mine", "tiny", {}, lanes, (), "")
    submit(database, LOCAL.key_id, new, queue_length=9, jobs_per_key=9)
    job = queue.take_next(database)
    assert job is not None
    return str(job.id)


def test_a_control_leaves_the_runs_own_numbers_alone(database: Any) -> None:
    job_id = started(database, 40)
    progress = JobProgress(database, job_id, threading.Event())
    numbers = []
    for stage, done, total in (
        *(("run", 0, 40), ("run", 10, 40), ("run", 40, 40)),
        *(("positive_control", 0, 6), ("positive_control", 6, 6)),
        *(("taught_pair", 0, 90), ("taught_pair", 90, 90), ("check", 2, 2)),
    ):
        progress(stage, done, total)
        job = visible_job(database, LOCAL, job_id)
        assert job is not None
        numbers.append((stage, job.lanes_done, job.lanes_total))
    assert numbers[:3] == [("run", 0, 40), ("run", 10, 40), ("run", 40, 40)]
    assert {lanes for _, *lanes in map(tuple, numbers[3:]) for lanes in [tuple(lanes)]} == {
        (40, 40)
    }
    events = [event.data for event in events_after(database, job_id, 0) if event.kind == "progress"]
    assert [(data["stage"], data["done"], data["total"]) for data in events][2:5] == [
        ("run", 40, 40),
        ("positive_control", 0, 6),
        ("positive_control", 6, 6),
    ]


def deaths(database: Any, job_id: str) -> int:
    job = visible_job(database, LOCAL, job_id)
    assert job is not None
    return job.failed_workers


@pytest.mark.parametrize("stage", ["run", "positive_control", "taught_pair"])
def test_a_group_of_any_stage_of_rows_ends_the_count_of_deaths(database: Any, stage: str) -> None:
    job_id = started(database, 8)
    for death in (1, 2):
        (left,) = queue.recover(database, f"signal {death}")
        assert left.failed_workers == death
        queue.take_next(database)
    progress = JobProgress(database, job_id, threading.Event())
    progress(stage, 2, 8)  # what was committed before
    assert deaths(database, job_id) == 2
    progress(stage, 4, 8)
    assert deaths(database, job_id) == 0
    (left,) = queue.recover(database, "signal 3")
    assert (left.state, left.failed_workers) == ("queued", 1)


def test_what_commits_nothing_does_not_end_the_count_of_deaths(database: Any) -> None:
    job_id = started(database, 8)
    queue.recover(database, "signal 1")
    queue.take_next(database)
    progress = JobProgress(database, job_id, threading.Event())
    for stage in ("load", "capture", "check"):
        for done in (0, 4, 8):
            progress(stage, done, 8)
    assert deaths(database, job_id) == 1


@pytest.mark.parametrize("stage", ["run", "positive_control", "taught_pair"])
def test_a_stop_lets_the_last_group_end_and_nothing_begin(database: Any, stage: str) -> None:
    stop = threading.Event()
    progress = JobProgress(database, started(database, 8), stop)
    progress(stage, 0, 8)
    stop.set()
    progress(stage, 8, 8)
    with pytest.raises(StoppedError):
        progress("check", 0, 8)


def test_rows_are_those_of_the_experiment_at_every_moment(server: RunningServer) -> None:
    control = {"rows": 2, "taught_pair": False}
    asked = tiny_experiment(4, conditions=["no_inject", "zero_replacement"])
    own = 2 * 4
    with server.client() as client:
        experiment_id = submitted(client, asked | {"positive_control": control})
        assert client.get(f"/v1/experiments/{experiment_id}").json()["rows_total"] == own
        view = ended(client, experiment_id)
        assert view["state"] == "done", view["error"]
        assert (view["rows_done"], view["rows_total"]) == (own, own)
        text = client.get(f"/v1/experiments/{experiment_id}/events").text
    events = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ")]
    totals: dict[str, set[int]] = {}
    for data in events:
        totals.setdefault(data.get("stage", "state"), set()).add(data["total"])
    assert totals["state"] == totals["run"] == {own}
    # More rows than the run's own: they would be seen in its place.
    (of_control,) = totals["positive_control"]
    assert of_control > own
