"""The store on a real PostgreSQL: kills, and a database that goes away and comes back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.server.conftest import tiny_experiment
from tests.server.postgres import Cluster
from tests.server.running_server import (
    RunningServer,
    ended,
    eventually,
    kill,
    running_server,
    submit,
)
from tests.server.test_jobs import LONG, all_events


@pytest.fixture
def on_postgres(
    tmp_path: Path, pair_settings: dict[str, Any], postgres: Cluster
) -> Iterator[RunningServer]:
    """A server whose store is an empty PostgreSQL database."""
    settings = pair_settings | {"database_url": postgres.fresh_url()}
    with running_server(tmp_path, settings) as server:
        yield server


@pytest.mark.slow
def test_kills_and_an_outage_on_postgresql(
    on_postgres: RunningServer, postgres: Cluster, alone: Any
) -> None:
    server = on_postgres
    token = server.key("submit", "ann")
    experiment = tiny_experiment(rows=20, **LONG)

    def rows_size(experiment_id: str) -> int:
        path = server.data / "runs" / experiment_id / "rows.jsonl"
        return path.stat().st_size if path.exists() else 0

    def grows(experiment_id: str) -> None:
        before = rows_size(experiment_id)
        eventually(lambda: rows_size(experiment_id) > before, "more rows", moving=server.moving)

    with server.evidence_on_failure():
        with server.client(token) as client:
            disturbed = submit(client, experiment)
            grows(disturbed)
            # As if the database's host had crashed: nothing of the server's ends with it.
            worker = server.worker_pid()
            postgres.stop("immediate")
            eventually(lambda: '"waiting"' in server.log.read_text(), "a worker that waits")
            away = client.get(f"/v1/experiments/{disturbed}")
            assert away.status_code == 503
            assert int(away.headers["retry-after"]) > 0
            assert client.get("/healthz").status_code == 200
            postgres.start()
            grows(disturbed)
            assert server.worker_pid() == worker
        server.kill()
        kill(worker)
        server.start(ready=False)
        with server.client(token) as client:
            view = ended(client, disturbed)
            assert view["state"] == "done", view
            assert client.get(f"/v1/experiments/{disturbed}/rows").content == alone(experiment)
            numbers = [number for number, _, _ in all_events(client, disturbed)]
            assert numbers == list(range(1, len(numbers) + 1))
        with server.client("sb_wrong") as stranger:
            assert stranger.get("/v1/pairs").status_code == 401
    assert not list(server.data.glob("*.sqlite*"))
    secret = postgres.password
    assert secret not in server.log.read_text()
