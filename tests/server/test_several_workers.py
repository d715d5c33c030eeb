"""Two workers on the CPU: each takes its own experiments, and one may die alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from statebridge_server.store import queue
from statebridge_server.store.database import Database
from tests.server.conftest import tiny_experiment
from tests.server.running_server import (
    RunningServer,
    ended,
    eventually,
    kill,
    running_server,
    submit,
)
from tests.server.test_jobs import LONG, all_events
from tests.server.test_queue import find

STILL_RUNS = LONG | {"decoding": {"max_new_tokens": 48, "max_prompt_tokens": 400}}


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, pair_settings: dict[str, Any]
) -> Iterator[RunningServer]:
    """A server with two workers on the CPU."""
    settings = pair_settings | {"devices": ["cpu", "cpu"]}
    with running_server(tmp_path_factory.mktemp("two"), settings) as running:
        yield running


def both_ready(server: RunningServer, client: httpx.Client) -> None:
    def ready() -> bool:
        return all(worker["ready"] for worker in client.get("/readyz").json()["workers"])

    eventually(ready, "both workers", moving=server.moving)


def is_gone(client: httpx.Client, slot: int) -> bool:
    """Whether readiness says that one worker is gone, and the other carries on."""
    answer = client.get("/readyz")
    assert answer.status_code == 200
    workers = answer.json()["workers"]
    assert workers[1 - slot]["ready"]
    return not workers[slot]["ready"]


def pids(server: RunningServer) -> dict[int, int]:
    database = Database(server.database_url)
    with closing(database):
        return {slot: state.pid for slot, state in queue.worker_states(database).items()}


def slot_of(server: RunningServer, experiment_id: str) -> int:
    database = Database(server.database_url)
    with closing(database):
        slot = find(database, experiment_id).slot
    assert slot is not None
    return slot


def states(client: httpx.Client, ids: list[str]) -> list[str]:
    return [client.get(f"/v1/experiments/{each}").json()["state"] for each in ids]


def rows_of(client: httpx.Client, experiment_id: str) -> bytes:
    view = ended(client, experiment_id)
    assert view["state"] == "done", view
    content = client.get(f"/v1/experiments/{experiment_id}/rows").content
    assert content.count(b"\n") == view["rows_total"]
    return content


def test_two_run_at_once_and_one_of_them_dies(server: RunningServer, alone: Any) -> None:
    experiments = [tiny_experiment(rows=rows, **STILL_RUNS) for rows in (20, 21)]
    with server.client() as client:
        both_ready(server, client)
        ids = [submit(client, each) for each in experiments]
        eventually(
            lambda: states(client, ids) == ["running", "running"],
            "both experiments at once",
            moving=server.moving,
        )
        slots = [slot_of(server, each) for each in ids]
        assert sorted(slots) == [0, 1]
        path = server.data / "runs" / ids[0] / "rows.jsonl"
        eventually(path.exists, "rows of the first", moving=server.moving)
        before = pids(server)
        kill(before[slots[0]])
        eventually(lambda: is_gone(client, slots[0]), "word of the dead worker")
        found = [rows_of(client, each) for each in ids]
        after = pids(server)
        events = [all_events(client, each) for each in ids]
        metrics = client.get("/metrics").text
        both_ready(server, client)
    assert found == [alone(each) for each in experiments]
    runs = [[data["state"] for _, kind, data in of_one if kind == "state"] for of_one in events]
    assert runs[0] == ["queued", "running", "queued", "running", "done"]
    assert runs[1] == ["queued", "running", "done"]
    assert slot_of(server, ids[0]) == slots[0], "its own successor went on with it"
    assert after[slots[0]] != before[slots[0]]
    assert after[slots[1]] == before[slots[1]]
    assert f'statebridge_worker_restarts{{worker="{slots[0]}"}} 1.0' in metrics
    assert f'statebridge_worker_restarts{{worker="{slots[1]}"}} 0.0' in metrics


def test_five_experiments_are_each_done_once(server: RunningServer, alone: Any) -> None:
    experiments = [tiny_experiment(rows=rows, name=f"five {rows}") for rows in (2, 3, 4, 5, 6)]
    with server.client() as client:
        both_ready(server, client)
        ids = [submit(client, each) for each in experiments]
        found = [rows_of(client, each) for each in ids]
        for each in ids:
            kinds = [data["state"] for _, kind, data in all_events(client, each) if kind == "state"]
            assert kinds == ["queued", "running", "done"]
        fitted = client.get("/v1/translators").json()["translators"]
    assert found == [alone(each) for each in experiments]
    of_each = [translator["experiment"] for translator in fitted]
    assert sorted(of_each) == sorted(2 * ids), "two seeds of each, registered once"
    assert {slot_of(server, each) for each in ids} <= {0, 1}


def test_readiness_speaks_of_every_worker(server: RunningServer) -> None:
    with server.client() as client:
        both_ready(server, client)
        body = client.get("/readyz").json()
        assert (body["ready"], body["worker"], len(body["workers"])) == (True, "ready", 2)
        assert [worker["device"] for worker in body["workers"]] == ["cpu", "cpu"]
        pairs = {pair["name"]: pair for pair in client.get("/v1/pairs").json()["pairs"]}
        assert len(pairs["tiny"]["loaded"]["sender"]) == 2, "each worker has its own"


@pytest.mark.slow
def test_a_stop_ends_all_workers_and_fewer_devices_take_over(
    server: RunningServer, alone: Any
) -> None:
    experiments = [tiny_experiment(rows=rows, **STILL_RUNS) for rows in (20, 21)]
    with server.client() as client:
        both_ready(server, client)
        ids = [submit(client, each) for each in experiments]
        eventually(
            lambda: states(client, ids) == ["running", "running"],
            "both experiments at once",
            moving=server.moving,
        )
    before = pids(server)
    code, seconds = server.stop()
    assert code == 0
    assert seconds < 10
    assert not [pid for pid in before.values() if Path(f"/proc/{pid}").exists()]
    server.settings["devices"] = ["cpu"]
    server.start()
    with server.client() as client:
        assert [rows_of(client, each) for each in ids] == [alone(each) for each in experiments]
        assert len(client.get("/readyz").json()["workers"]) == 1
    assert {slot_of(server, each) for each in ids} == {0}
