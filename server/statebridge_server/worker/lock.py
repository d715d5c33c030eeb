"""The lock that the worker holds: each model has one owner at any time.

The system releases a lock when the process that holds it ends, also when it is killed. A process
that gets the lock therefore knows that the previous worker is dead, without comparing clocks.
"""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock

POLL_SECONDS = 0.1
"""Between two attempts to get the lock."""

_held: list[FileLock] = []
"""Locks of this process: one that is collected as garbage would be released."""


def become_only_worker(data: Path) -> None:
    """Wait for the worker's lock and hold it until this process ends."""
    # A server before this version had a worker, and a lock, for each of its devices.
    for path in (data / "worker.lock", *sorted(data.glob("worker-*.lock"))):
        lock = FileLock(path, mode=0o600, thread_local=False)
        lock.acquire(poll_interval=POLL_SECONDS)
        # Never released here: until the process has ended, one of its threads may still write.
        _held.append(lock)
