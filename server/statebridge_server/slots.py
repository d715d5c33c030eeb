"""Worker slots: one for each declared device, each with a lock that its living worker holds.

The kernel lets go of a lock when the process that holds it ends, however it ends. So whoever gets
a slot's lock knows that the slot's last worker is dead, and no clock is compared.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from statebridge_server.store import turns
from statebridge_server.store.database import Database
from statebridge_server.store.tables import Job


def lock_path(data: Path, slot: int) -> Path:
    """Return the file that the worker of a slot locks."""
    return data / ("worker.lock" if slot == 0 else f"worker-{slot}.lock")


def become_only_worker(data: Path, slot: int) -> None:
    """Wait for the slot's lock and hold it until this process ends."""
    # Never closed here: until the process has ended a thread of it may still write.
    fcntl.flock(_opened(data, slot), fcntl.LOCK_EX)


def take_over(
    database: Database, data: Path, slots: int, recovered: Callable[[Job], None] = lambda _: None
) -> None:
    """Queue again what workers of slots from `slots` on left running, once they are dead.

    Such slots are those of an earlier start with more devices. A worker of one that is still
    ending holds its lock; its jobs are looked at again the next time.
    """
    for slot in turns.slots_beyond(database, slots):
        descriptor = _opened(data, slot)
        try:
            with suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                reason = "the server was started again with fewer devices"
                for job in turns.recover(database, reason, slot):
                    recovered(job)
        finally:
            os.close(descriptor)


def pairs_for_others(
    database: Database, slot: int, slots: int, pairs: Mapping[str, Mapping[str, Any] | None]
) -> list[str]:
    """Return the pairs that this slot's worker cannot load, and that another one may yet load.

    Args:
        pairs: What the worker says of each pair.
    """
    failed = [name for name, said in pairs.items() if said and "error" in said]
    if not failed or slots == 1:
        return []
    states = turns.worker_states(database)
    others = [states.get(other) for other in range(slots) if other != slot]
    return [
        name
        for name in failed
        if any(said is None or "error" not in (said.pairs.get(name) or {}) for said in others)
    ]


def _opened(data: Path, slot: int) -> int:
    return os.open(lock_path(data, slot), os.O_CREAT | os.O_RDWR, 0o600)
