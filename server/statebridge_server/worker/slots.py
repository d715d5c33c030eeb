"""Worker slots: one for each declared device, each with a lock that its worker holds.

The system releases a lock when the process that holds it ends, also when it is killed. A process
that gets a slot's lock therefore knows that the slot's previous worker is dead, without comparing
clocks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from statebridge_server.store import queue
from statebridge_server.store.database import Database
from statebridge_server.store.tables import Job

POLL_SECONDS = 0.1
"""Between two attempts to get a slot's lock."""

_held: list[FileLock] = []
"""Locks of this process: one that is collected as garbage would be released."""


def lock_path(data: Path, slot: int) -> Path:
    """Return the lock file of a slot."""
    return data / ("worker.lock" if slot == 0 else f"worker-{slot}.lock")


def become_only_worker(data: Path, slot: int) -> None:
    """Wait for the slot's lock and hold it until this process ends."""
    lock = _lock(data, slot)
    lock.acquire(poll_interval=POLL_SECONDS)
    # Never released here: until the process has ended, one of its threads may still write.
    _held.append(lock)


def take_over(
    database: Database, data: Path, slots: int, recovered: Callable[[Job], None] = lambda _: None
) -> None:
    """Queue again the jobs of dead workers in slots from `slots` on.

    Such slots belong to an earlier start with more devices. A worker that is still ending holds its
    lock; its jobs are left for the next call.
    """
    for slot in queue.slots_beyond(database, slots):
        with suppress(Timeout), _lock(data, slot).acquire(blocking=False):
            reason = "the server was started again with fewer devices"
            for job in queue.recover(database, reason, slot):
                recovered(job)


def pairs_for_others(
    database: Database, slot: int, slots: int, pairs: Mapping[str, Mapping[str, Any] | None]
) -> list[str]:
    """Return the pairs that this slot's worker cannot load, and that another one may yet load.

    Args:
        pairs: State of each pair in this worker.
    """
    failed = [name for name, state in pairs.items() if state and "error" in state]
    if not failed or slots == 1:
        return []
    states = queue.worker_states(database)
    others = [states.get(other) for other in range(slots) if other != slot]
    return [
        name
        for name in failed
        if any(other is None or "error" not in (other.pairs.get(name) or {}) for other in others)
    ]


def _lock(data: Path, slot: int) -> FileLock:
    return FileLock(lock_path(data, slot), mode=0o600, thread_local=False)
