"""Kills at random moments, and a clock that jumps by days, forward and back, at every look."""

from __future__ import annotations

import hashlib
import itertools
import os
import random
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from statebridge_server.api.context import Heartbeat
from statebridge_server.store.database import Database
from statebridge_server.store.jobs import ENDED, list_jobs
from statebridge_server.store.keys import LOCAL
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

VICTIMS = ("worker", "server", "both")
MOMENTS = ("at once", "in its start", "experiment taken", "rows committed")
TORN = ("both", "rows committed")
FEW = [
    ("worker", "experiment taken"),
    ("server", "rows committed"),
    ("worker", "at once"),
    TORN,
    ("server", "in its start"),
]
"""Each victim and each moment at least once; the soak tests have them all, and many times."""

JUMPS = """
import random, time
_time, _draw = time.time, random.SystemRandom()
time.time = lambda: _time() + _draw.uniform(-400 * 86400, 400 * 86400)
"""


class JumpingServer(RunningServer):
    """A server whose processes all see a clock that jumps."""

    @property
    def environment(self) -> dict[str, str]:
        """With a module that Python loads at its start."""
        (self.folder / "sitecustomize.py").write_text(JUMPS)
        found = super().environment
        return found | {"PYTHONPATH": os.pathsep.join((str(self.folder), found["PYTHONPATH"]))}


def wait_for_moment(server: RunningServer, moment: str, more: float) -> None:
    """Wait until something of that kind happens, and a little more; not when all have ended."""
    # Closed before the kill: an open connection would keep what a crash of all loses.
    with closing(Database(server.database_url)) as database:
        _wait_for_moment(server, database, moment)
    if moment != "at once":
        time.sleep(more)


def _wait_for_moment(server: RunningServer, database: Database, moment: str) -> None:
    def stands() -> tuple[int, int, bool]:
        jobs = list_jobs(database, LOCAL)
        size = sum(path.stat().st_size for path in server.data.glob("runs/*/rows.jsonl"))
        return sum(job.turn for job in jobs), size, all(job.state in ENDED for job in jobs)

    if moment in ("experiment taken", "rows committed"):
        place = 0 if moment == "experiment taken" else 1
        before = stands()[place]

        def happened() -> bool:
            now = stands()
            return now[place] > before or now[2]

        eventually(happened, moment, moving=server.moving)


def kill_victim(server: RunningServer, victim: str, tear_writes: Callable[[], None] | None) -> None:
    """kill -9, and a new server where there is none any more."""
    worker = server.worker_pid()
    if victim != "worker":
        server.kill()
    if victim != "server":
        kill(worker)
    if tear_writes is not None:
        eventually(lambda: not lives(worker), "the end of a killed worker")
        tear_writes()
    if victim != "worker":
        server.start(ready=False)
    if victim == "server":
        eventually(lambda: not lives(worker), "the end of a worker without a server")


def lives(pid: int) -> bool:
    """Whether a process runs still."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def tear_writes(server: RunningServer, whole: dict[str, int], draw: random.Random) -> None:
    """Leave the files of a dead server as writes that were not finished leave them.

    `whole` is the size of each experiment's rows once it has ended.
    """
    for job_id, size in whole.items():
        run = server.data / "runs" / job_id
        if (run / "rows.jsonl").exists() and (run / "rows.jsonl").stat().st_size < size:
            # A line is longer than that, so no more than the last group is torn.
            tear(run / "rows.jsonl", 60, draw)
            tear(run / "sessions.jsonl", 5, draw)
            (run / ".manifest.json.0123abcd.tmp").write_bytes(b'{"half": ')
    tear(server.data / "statebridge.sqlite-wal", 5000, draw)
    (server.data / "incoming" / "half").write_bytes(b"half an upload")


def tear(path: Path, most: int, draw: random.Random) -> None:
    """Cut up to that many bytes off a file's end."""
    if path.exists():
        os.truncate(path, max(0, path.stat().st_size - draw.randint(1, most)))


def check_store(server: RunningServer) -> None:
    """The database is whole, and no unfinished file is left."""
    with sqlite3.connect(server.data / "statebridge.sqlite") as connection:
        assert connection.execute("pragma integrity_check").fetchall() == [("ok",)]
        assert connection.execute("pragma foreign_key_check").fetchall() == []
    connection.close()
    assert not list((server.data / "incoming").iterdir())
    assert not list(server.data.glob("runs/**/.*.tmp"))


def check_events(events: list[tuple[int, str, dict[str, Any]]], total: int) -> None:
    """Numbered without a gap, one end, and never more rows than there are."""
    assert [number for number, _, _ in events] == list(range(1, len(events) + 1))
    states = [data["state"] for _, kind, data in events if kind == "state"]
    assert states[0] == "queued"
    assert states.count("done") == 1
    assert states[-1] == "done"
    for step in itertools.pairwise(states):
        assert step in {
            ("queued", "running"),
            ("running", "queued"),
            ("running", "failed"),
            ("failed", "queued"),
            ("running", "done"),
        }
    for _, kind, data in events:
        if kind == "progress" and data["stage"] == "run":
            assert data["done"] <= data["total"] == total


def survive(
    server: RunningServer,
    draw: random.Random,
    plan: list[tuple[str, str]],
    alone: Callable[[dict[str, Any]], bytes],
    *,
    long_rows: int = 60,
) -> None:
    """Kill those victims at those moments over a queue of experiments, and check everything.

    Each time that both die while rows are being committed, the last writes are torn as well.
    """
    kinds = [
        tiny_experiment(rows=30, execution={"max_lanes": 40}),
        tiny_experiment(rows=long_rows, **LONG),
    ]
    expected = [alone(experiment) for experiment in kinds]
    with server.client() as client:
        queued = [(place, submit(client, kinds[place])) for place in (0, 1, 0, 1)]
    whole = {experiment_id: len(expected[place]) for place, experiment_id in queued}
    tear_them = partial(tear_writes, server, whole, draw)
    for victim, moment in plan:
        wait_for_moment(server, moment, draw.uniform(0.0, 0.4))
        kill_victim(server, victim, tear_them if (victim, moment) == TORN else None)
    with server.client() as client:
        for place, experiment_id in queued:
            view = ended(client, experiment_id)
            if view["state"] == "failed":  # three deaths without a group between are its rule
                assert "died 3 times" in view["error"]
                client.post(f"/v1/experiments/{experiment_id}/resume").raise_for_status()
                view = ended(client, experiment_id)
            assert view["state"] == "done", view
            rows = client.get(f"/v1/experiments/{experiment_id}/rows").content
            assert hashlib.sha256(rows).digest() == hashlib.sha256(expected[place]).digest()
            assert view["rows_done"] == view["rows_total"] == rows.count(b"\n")
            check_events(all_events(client, experiment_id), view["rows_total"])
        check_translators(client.get("/v1/translators").json()["translators"], server.data)
    check_store(server)


def check_translators(listed: list[dict[str, Any]], data: Path) -> None:
    """Each fitting experiment has one for each seed, of the same bytes in all of them."""
    seeds = Counter((view["experiment"], view["name"]) for view in listed)
    assert len(seeds) == 4
    assert set(seeds.values()) == {1}
    assert len({view["sha256"] for view in listed}) == 2
    for view in listed:
        content = (data / "translators" / f"{view['id']}.safetensors").read_bytes()
        assert hashlib.sha256(content).hexdigest() == view["sha256"]


@pytest.mark.slow
def test_every_victim_and_moment_under_a_clock_that_jumps(
    tmp_path: Path, pair_settings: dict[str, Any], alone: Any
) -> None:
    assert {victim for victim, _ in FEW} == {*VICTIMS}
    assert {moment for _, moment in FEW} == {*MOMENTS}
    jumping = JumpingServer(tmp_path, pair_settings)
    jumping.start()  # ready, though its heart beats years apart
    try:
        with jumping.evidence_on_failure():
            survive(jumping, random.Random(7), FEW, alone, long_rows=20)
            with jumping.client() as client:
                views = client.get("/v1/experiments").json()["experiments"]
            days = {view[what][:10] for view in views for what in ("submitted_at", "finished_at")}
            assert len(days) > 1  # it did jump
            # A key lasts, whatever the time that it was made at.
            with jumping.client(jumping.key("submit", "ann")) as client:
                assert client.get("/v1/experiments").status_code == 200
    finally:
        jumping.stop()


def test_a_heartbeat_is_as_old_as_its_last_change(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 50.0, 51.0, 90.0])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    heartbeat = Heartbeat()
    assert heartbeat.age(7.0) == 0
    assert heartbeat.age(7.0) == 40
    assert heartbeat.age(3.0) == 0
    assert heartbeat.age(3.0) == 39


@pytest.mark.soak
@pytest.mark.parametrize("reuse", [False, True])
@pytest.mark.parametrize("seed", range(2))
def test_sixty_kills_at_random_moments(
    tmp_path: Path, pair_settings: dict[str, Any], alone: Any, seed: int, reuse: bool
) -> None:
    draw = random.Random(seed)
    # Every victim meets every moment; what is left over is drawn.
    plan = [(victim, moment) for victim in VICTIMS for moment in MOMENTS]
    plan += [(draw.choice(VICTIMS), draw.choice(MOMENTS)) for _ in range(60 - len(plan))]
    draw.shuffle(plan)
    with (
        running_server(tmp_path, pair_settings | {"reuse": reuse}) as server,
        server.evidence_on_failure(),
    ):
        survive(server, draw, plan, alone)
