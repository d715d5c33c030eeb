"""A server on two devices: a real Ray cluster of this machine, whose actors all experiments share.

One server serves the whole file: an actor takes seconds to import torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from statebridge_server.store.database import Database
from tests.server.conftest import tiny_experiment
from tests.server.running_server import (
    RunningServer,
    ended,
    eventually,
    running_server,
    submit,
)
from tests.server.test_jobs import LONG, all_events
from tests.server.test_queue import find

pytestmark = pytest.mark.slow

STILL_RUNS = LONG | {
    "decoding": {"max_new_tokens": 48, "max_prompt_tokens": 400},
    "execution": {"max_lanes": 16},
}


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, pair_settings: dict[str, Any]
) -> Iterator[RunningServer]:
    """A server with two actors on the CPU, and two keys."""
    settings = pair_settings | {"devices": ["cpu", "cpu"]}
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        with running_server(tmp_path_factory.mktemp("two"), settings) as running:
            yield running


@pytest.fixture(scope="module")
def clients(server: RunningServer) -> Iterator[list[httpx.Client]]:
    with (
        server.client(server.key("admin", "ann")) as ann,
        server.client(server.key("submit", "ben")) as ben,
    ):
        yield [ann, ben]


def actors_of(server: RunningServer) -> list[int]:
    """Process ids of the actors of this server's cluster, which are not its worker's children."""
    worker, found = server.worker_pid(), []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            actor = b"ray::ModelActor" in (folder / "cmdline").read_bytes()
            raylet = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            parent = int(Path(f"/proc/{raylet}/stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError, ValueError):
            continue
        if actor and parent == worker:
            found.append(int(folder.name))
    return found


def rows_of(client: httpx.Client, experiment_id: str) -> bytes:
    view = ended(client, experiment_id)
    assert view["state"] == "done", view
    content = client.get(f"/v1/experiments/{experiment_id}/rows").content
    assert content.count(b"\n") == view["rows_total"]
    return content


@pytest.mark.soak
def test_keys_share_the_actors_and_the_worker_dies(
    server: RunningServer, clients: list[httpx.Client], alone: Any
) -> None:
    ann, ben = clients
    experiments = [tiny_experiment(rows=rows, **STILL_RUNS) for rows in (20, 20, 20, 5)]
    ids = [submit(ann, each) for each in experiments[:3]] + [submit(ben, experiments[3])]

    def view(place: int) -> dict[str, Any]:
        found: dict[str, Any] = ann.get(f"/v1/experiments/{ids[place]}").json()
        return found

    eventually(
        lambda: view(0)["rows_done"] and view(1)["rows_done"],
        "rows of two at once",
        moving=server.moving,
    )
    assert ann.post(f"/v1/experiments/{ids[1]}/cancel").status_code in (200, 202)
    cancelled = ended(ann, ids[1])
    assert cancelled["state"] == "cancelled"
    assert cancelled["rows_done"] < cancelled["rows_total"]
    before = actors_of(server)
    assert len(before) == 2
    server.kill_worker()
    assert ann.post(f"/v1/experiments/{ids[1]}/resume").status_code in (200, 202)
    rows = [rows_of(ann, each) for each in ids]
    assert rows == [alone(each) for each in experiments]
    states = [
        [data["state"] for _, kind, data in all_events(ann, each) if kind == "state"]
        for each in ids
    ]
    assert ["queued", "running", "queued", "running", "done"] in states, "by another worker"
    assert view(3)["finished_at"] < view(2)["finished_at"], "ben's did not wait for all of ann's"
    assert not [pid for pid in before if Path(f"/proc/{pid}").exists()], "of the dead worker"


def test_a_reason_shows_no_path_and_a_stop_ends_the_actors(
    server: RunningServer, clients: list[httpx.Client], pair_folder: Path
) -> None:
    ann, _ = clients
    config = pair_folder / "receiver" / "config.json"
    config.rename(config.with_name("away"))
    try:
        view = ended(ann, submit(ann, tiny_experiment(rows=2)))
    finally:
        config.with_name("away").rename(config)
    assert view["state"] == "failed"
    assert "has no model at receiver" in view["error"]
    assert str(pair_folder) not in view["error"]
    body = ann.get("/readyz").json()
    assert (body["ready"], body["pairs"]["tiny"]) == (True, "loaded")
    left = submit(ann, tiny_experiment(rows=20, **STILL_RUNS))
    path = server.data / "runs" / left / "rows.jsonl"
    eventually(path.exists, "rows of one that the stop interrupts", moving=server.moving)
    before = actors_of(server)
    assert before
    code, seconds = server.stop()
    assert (code, seconds < 10) == (0, True)
    with closing(Database(server.database_url)) as database:
        job = find(database, left)
    assert (job.state, job.failed_workers) == ("queued", 0), "put back, not left by a dead worker"
    # Ray ends them by signals behind its own process, which was ended first.
    eventually(
        lambda: not [pid for pid in before if Path(f"/proc/{pid}").exists()], "no actor is left"
    )
