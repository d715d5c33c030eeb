"""A server that is paused, experiments over the tiny pair, and databases."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from tests.server.postgres import Cluster, running_postgres
from tests.server.running_server import ROOT, RunningServer

# One process for each test would load torch twenty times.
if str(ROOT / "server") not in sys.path:
    sys.path.insert(0, str(ROOT / "server"))
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="module")
def paused_server(
    tmp_path_factory: pytest.TempPathFactory, pair_settings: dict[str, Any]
) -> Iterator[RunningServer]:
    """A server whose worker waits for a lock that the test holds: jobs stay queued."""
    folder = tmp_path_factory.mktemp("paused")
    (folder / "data").mkdir()
    limits = {
        "upload_bytes": 20_000,
        "corpus_bytes": 15_000,
        "body_bytes": 20_000,
        "rows": 50,
        "prompt_chars": 2000,
        "lanes": 900,
        "new_tokens": 100,
        "queue_length": 8,
        "jobs_per_key": 5,
    }
    running = RunningServer(folder, pair_settings | {"limits": limits})
    with FileLock(folder / "data" / "worker.lock"):
        running.start(ready=False)
        yield running
        running.stop()


def tiny_experiment(rows: int = 6, **fields: Any) -> dict[str, Any]:
    """An experiment over the tiny pair as a client sends it: generated rows, all conditions."""
    return {
        "name": "tiny",
        "sender": {"model": "sender", "layer": 1},
        "receiver": {"model": "receiver", "layer": 2},
        "dataset": {"generate": {"rows": rows, "seed": 3}},
        "translators": {"fit": {"kind": "ridge", "corpus": {"generate": {"rows": 20, "seed": 9}}}},
        "conditions": "published-strict",
        "seeds": [42, 123],
        "decoding": {"max_new_tokens": 6, "relay_max_new_tokens": 6, "max_prompt_tokens": 400},
    } | fields


@pytest.fixture(scope="session")
def alone(
    pair_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[dict[str, Any]], bytes]:
    """The rows of an experiment that the library runs by itself, in this process."""
    folder = tmp_path_factory.mktemp("alone")
    known: dict[str, bytes] = {}

    def rows(experiment: dict[str, Any]) -> bytes:
        # Torch is imported here: the tests of the store alone need none.
        from statebridge.engine.run_experiment import run_experiment
        from statebridge.experiment import parse_experiment

        here = dict(experiment)
        for side in ("sender", "receiver"):
            path = str(pair_folder / experiment[side]["model"])
            here[side] = experiment[side] | {"model": path}
        declared = json.dumps(here)
        if declared not in known:
            out = folder / str(len(known))
            run_experiment(parse_experiment(declared), out)
            known[declared] = (out / "rows.jsonl").read_bytes()
        return known[declared]

    return rows


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    """A PostgreSQL of the tests' own; skips where there is none."""
    with running_postgres() as cluster:
        yield cluster


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'jobs.sqlite'}"
    cluster: Cluster = request.getfixturevalue("postgres")
    return cluster.fresh_url()


@pytest.fixture
def database(database_url: str) -> Iterator[Any]:
    """An empty store of each kind."""
    from statebridge_server.store.database import Database

    opened = Database(database_url)
    yield opened
    opened.close()
