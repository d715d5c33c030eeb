"""Slots: who may take what, who takes up what was left, and databases that knew none."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from filelock import FileLock
from sqlalchemy import text

from statebridge.errors import InputError
from statebridge_server.settings import fixed_settings, load_settings
from statebridge_server.store import jobs, queue
from statebridge_server.store.database import Database
from statebridge_server.store.tables import SCHEMA
from statebridge_server.worker.loaded_models import LoadedModels
from statebridge_server.worker.slots import lock_path, pairs_for_others, take_over
from tests.server.test_queue import enqueue, find


def test_workers_never_share_a_job_and_keys_keep_turns(database: Database) -> None:
    for place in range(8):
        enqueue(database, "ann", f"ann{place}")
    for place in range(2):
        enqueue(database, "ben", f"ben{place}")
    taken: list[tuple[int, str]] = []
    begin = threading.Barrier(4)

    def work(slot: int) -> None:
        begin.wait()
        while True:
            job = queue.take_next(database, slot, 4)
            if job is None:
                if jobs.counts(database)["queued"] == 0:
                    return
                continue
            taken.append((job.turn, job.name))
            queue.end(database, job.id, "done")

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(work, range(4)))
    assert sorted(name for _, name in taken) == sorted(
        [*(f"ann{i}" for i in range(8)), "ben0", "ben1"]
    )
    taken.sort()
    assert [turn for turn, _ in taken] == list(range(1, 11)), "each turn is one job's"
    assert [name for _, name in taken][:4] == ["ann0", "ben0", "ann1", "ben1"]


def test_a_worker_puts_back_and_recovers_its_own_jobs_alone(database: Database) -> None:
    ids = [enqueue(database, "ann", f"job{slot}") for slot in range(3)]
    for slot in range(3):
        assert queue.take_next(database, slot, 3) is not None
    assert [find(database, job_id).slot for job_id in ids] == [0, 1, 2]
    queue.put_back(database, 1)
    assert [job.id for job in queue.recover(database, "signal", 2)] == [ids[2]]
    assert [find(database, job_id).state for job_id in ids] == ["running", "queued", "queued"]
    assert [find(database, job_id).failed_workers for job_id in ids] == [0, 0, 1]


def test_what_was_begun_goes_on_in_its_slot_while_there_is_one(database: Database) -> None:
    begun, new = enqueue(database, "ann", "begun"), enqueue(database, "ann", "new")
    assert queue.take_next(database, 1, 2) is not None
    queue.put_back(database, 1)
    other = queue.take_next(database, 0, 2)
    assert other is not None
    assert other.id == new
    assert queue.take_next(database, 0, 2) is None, "it is left to slot 1"
    one_left = queue.take_next(database, 0, 1)
    assert one_left is not None
    assert one_left.id == begun


def test_a_slot_leaves_pairs_that_it_cannot_load_to_others(database: Database) -> None:
    def left_to_others(slot: int, pairs: dict[str, dict[str, str]]) -> list[str]:
        queue.beat(database, 1, "ready", "", pairs, slot)
        return pairs_for_others(database, slot, 2, pairs)

    failed = {"tiny": {"error": "no such device"}}
    assert left_to_others(1, failed) == ["tiny"], "slot 0 has no record yet"
    assert left_to_others(0, {}) == []
    enqueue(database, "ann")
    assert queue.take_next(database, 1, 2, left_to_others(1, failed)) is None
    assert left_to_others(0, failed) == [], (
        "nobody can load it, so that the job fails with a reason"
    )
    assert queue.take_next(database, 1, 2, left_to_others(1, failed)) is not None
    assert pairs_for_others(database, 0, 1, failed) == []


def test_jobs_of_missing_slots_are_taken_over_under_their_lock(
    database: Database, tmp_path: Path
) -> None:
    job_id = enqueue(database, "ann")
    assert queue.take_next(database, 3, 4) is not None
    with FileLock(lock_path(tmp_path, 3)):
        take_over(database, tmp_path, 2)
        assert find(database, job_id).state == "running", "its worker lives"
        take_over(database, tmp_path, 4)
    assert find(database, job_id).state == "running", "its slot has a worker of its own"
    seen: list[str] = []
    take_over(database, tmp_path, 2, lambda job: seen.append(job.id))
    assert seen == [job_id]
    assert find(database, job_id).state == "queued"
    assert lock_path(tmp_path, 0).name == "worker.lock"


def test_a_database_without_slots_is_brought_up(database_url: str) -> None:
    old = Database(database_url)
    left, waiting = enqueue(old, "ann", "left"), enqueue(old, "ann", "waiting")
    queue.take_next(old)
    queue.beat(old, 1, "ready", "", {})
    with old.write() as session:
        session.execute(text("ALTER TABLE jobs DROP COLUMN slot"))
        session.execute(text("UPDATE schema_version SET version = 2"))
    old.close()

    with ThreadPoolExecutor(3) as threads:  # as server, worker and command line may at once
        opened = list(threads.map(Database, [database_url] * 3))
    database = opened[0]
    with database.read() as session:
        assert session.execute(text("SELECT version FROM schema_version")).all() == [(SCHEMA,)]
    assert list(queue.worker_states(database)) == [0]
    assert queue.recover(database, "x", 1) == []
    assert [job.id for job in queue.recover(database, "x", 0)] == [left]
    names = [
        job.id for job in (queue.take_next(database, 1, 2), queue.take_next(database, 0, 2)) if job
    ]
    assert names == [left, waiting]
    for each in opened:
        each.close()


def test_devices_are_declared_for_each_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [worker.device for worker in fixed_settings({"device": "cpu"}).workers] == ["cpu"]
    apart = {"device": "cuda:1", "sender_device": "cuda:2"}
    settings = fixed_settings({"device": "cpu", "devices": ["cuda:0", apart]})
    assert [worker.device for worker in settings.workers] == ["cuda:0", "cuda:1"]
    assert [worker.sender_device for worker in settings.workers] == [None, "cuda:2"]
    assert fixed_settings(settings.model_dump(mode="json")) == settings
    monkeypatch.setenv("STATEBRIDGE_DEVICES", json.dumps(["cpu", "cpu"]))
    assert len(load_settings(data=tmp_path).workers) == 2
    for wrong, expected in (
        ([], "devices"),
        (["gpu"], "devices.0"),
        ([{"devise": "cpu"}], "devise"),
    ):
        monkeypatch.setenv("STATEBRIDGE_DEVICES", json.dumps(wrong))
        with pytest.raises(InputError, match=expected):
            load_settings()


def test_a_worker_holds_each_side_where_it_is_declared(
    pair_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from statebridge_server.worker import loaded_models

    load, asked = loaded_models.load_model, []

    def load_here(at: object, *, dtype: str, device: str, host: object) -> object:
        asked.append(device)
        return load(at, dtype=dtype, device="cpu")  # type: ignore[arg-type]

    monkeypatch.setattr(loaded_models, "load_model", load_here)
    itself = {side: {"model": str(pair_folder / "sender")} for side in ("sender", "receiver")}
    apart = {"device": "cuda:1", "sender_device": "cuda:0"}
    settings = fixed_settings({"pairs": {"one": itself}, "devices": ["cuda:2", apart]})
    LoadedModels(settings, 0).preload("one")
    assert asked == ["cuda:2"], "one model on one device is loaded once"
    models = LoadedModels(settings, 1)
    models.preload("one")
    assert asked[1:] == ["cuda:0", "cuda:1"]
    described = models.describe("one")
    assert described is not None
    assert [len(described[side]) for side in ("sender", "receiver")] == [1, 1]
