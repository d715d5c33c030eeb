"""Processes that are killed: nothing is lost, nothing is doubled, the rows are the same."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.server.conftest import tiny_experiment
from tests.server.running_server import RunningServer, ended, eventually, kill, submit
from tests.server.test_jobs import LONG


def wait_for_rows(server: RunningServer, experiment_id: str, more_than: int) -> int:
    """Wait until more rows are committed; return how many."""
    path = server.data / "runs" / experiment_id / "rows.jsonl"

    def found() -> int:
        count = path.read_bytes().count(b"\n") if path.exists() else 0
        return count if count > more_than else 0

    return int(eventually(found, f"more than {more_than} rows", moving=server.moving))


@pytest.mark.slow
def test_a_stop_takes_under_ten_seconds_and_costs_no_row(server: RunningServer) -> None:
    with server.client() as client:
        experiment_id = submit(client, tiny_experiment(rows=60, **LONG))
        done = wait_for_rows(server, experiment_id, 5)
        worker = server.worker_pid()
        with client.stream("GET", f"/v1/experiments/{experiment_id}/events") as answer:
            next(answer.iter_lines())
            code, seconds = server.stop()
    assert code in (0, -signal.SIGTERM)
    assert seconds < 10
    assert not Path(f"/proc/{worker}").exists()
    path = server.data / "runs" / experiment_id / "rows.jsonl"
    before = path.read_bytes()
    assert before.count(b"\n") >= done
    server.start(ready=False)
    with server.client() as client:
        view = ended(client, experiment_id)
        assert view["state"] == "done"
        rows = client.get(f"/v1/experiments/{experiment_id}/rows").content
    assert rows.startswith(before)
    assert rows.count(b"\n") == view["rows_total"]


@pytest.mark.slow
def test_the_next_job_runs_after_one_that_kills_workers(
    server: RunningServer,
) -> None:
    # One group of all rows, so that no death leaves anything behind.
    heavy = tiny_experiment(rows=3000, **(LONG | {"execution": {"max_lanes": 4096}}))
    with server.client() as client:
        poison = submit(client, heavy)
        following = submit(client, tiny_experiment(rows=1, **LONG), priority=-1)
        killed: set[int] = set()
        while len(killed) < 3:
            state = client.get(f"/v1/experiments/{poison}").json()["state"]
            pid = server.worker_pid()
            if state == "running" and pid not in killed:
                started = sum(
                    data["state"] == "running" and kind == "state"
                    for _, kind, data in _events_so_far(server, poison)
                )
                if started == len(killed) + 1:
                    kill(pid)
                    killed.add(pid)
            time.sleep(0.05)
        failed = ended(client, poison)
        assert failed["state"] == "failed"
        assert "died 3 times" in failed["error"]
        assert "SIGKILL" in failed["error"]
        assert ended(client, following)["state"] == "done"


def _events_so_far(server: RunningServer, job_id: str) -> list[tuple[int, str, dict[str, Any]]]:
    from statebridge_server.store.database import Database
    from statebridge_server.store.jobs import events_after

    database = Database(server.database_url)
    try:
        return [(e.number, e.kind, e.data) for e in events_after(database, job_id, 0)]
    finally:
        database.close()
