"""Processes that are killed: nothing is lost, nothing is doubled, the rows are the same."""

from __future__ import annotations

import signal
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from statebridge_server.store.database import Database
from statebridge_server.store.jobs import locked
from tests.server.conftest import tiny_experiment
from tests.server.running_server import RunningServer, ended, eventually, submit
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
        experiment_id = submit(client, tiny_experiment(rows=20, **LONG))
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
def test_the_next_job_runs_after_one_that_kills_workers(server: RunningServer) -> None:
    # One group of all rows, so that no death leaves anything behind.
    heavy = tiny_experiment(rows=600, **(LONG | {"execution": {"max_lanes": 4096}}))
    with server.client() as client, closing(Database(server.database_url)) as database:
        poison = submit(client, heavy)
        following = submit(client, tiny_experiment(rows=1, **LONG), priority=-1)

        def view() -> dict[str, Any]:
            found: dict[str, Any] = client.get(f"/v1/experiments/{poison}").json()
            return found

        eventually(lambda: view()["state"] == "running", "its start", moving=server.moving)
        with database.write() as session:  # as two more deaths would leave it
            locked(session, poison).failed_workers = 2
        server.kill_worker()
        failed = ended(client, poison)
        assert failed["state"] == "failed"
        assert "died 3 times" in failed["error"]
        assert "SIGKILL" in failed["error"]
        assert ended(client, following)["state"] == "done"
