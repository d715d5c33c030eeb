"""Database reads that are shared by all who ask the same until the next commit.

The state of an experiment depends on the database alone, so an answer is valid until something is
committed, by this process or another one: a revoked key, a cancelled experiment or a new group of
rows is seen at once. Many polling clients then cost the machine, which has models to run, little.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from anyio import to_thread

Found = TypeVar("Found")

MAX_KEPT = 100
"""Results kept at a time; a read beyond that is shared only while it runs."""


class PollCache:
    """One read for all requests with the same question between two commits.

    Without it, twenty clients that ask after a commit would start twenty threads, which delay
    each other and the event loop. Use it from the event loop only.
    """

    def __init__(self, version: Callable[[], int | None]) -> None:
        """Take the function that returns the version of the database.

        Args:
            version: Returns a number that changes with every commit, or None where the database
                has no such number; then every request reads for itself.
        """
        self._read_version = version
        self._version: int | None = None
        self._reads: dict[Hashable, asyncio.Future[Any]] = {}

    async def read(self, read: Callable[..., Found], *arguments: Hashable) -> Found:
        """Return the result of `read(*arguments)`, which runs on a thread unless it is kept.

        Requests that wait for the same read share its result or its error. Errors and None are
        not kept: the next request reads again.

        Args:
            read: A function of the database and of its arguments.
            arguments: The question. They are kept, so none may be a secret.
        """
        # Taken before the read: the result is at least as new as this version.
        version = self._read_version()
        if version is None:
            return await to_thread.run_sync(read, *arguments)
        if version != self._version:
            self._version = version
            # A request that waits for an older read holds its future, and asked before the commit.
            self._reads.clear()
        key = (read, *arguments)
        running: asyncio.Future[Found] | None = self._reads.get(key)
        if running is None:
            running = asyncio.ensure_future(to_thread.run_sync(read, *arguments))
            self._reads[key] = running
            running.add_done_callback(lambda done: self._end(key, done))
        # Shielded: a client that disconnects must not cancel the read of the others.
        return await asyncio.shield(running)

    def _end(self, key: Hashable, read: asyncio.Future[Any]) -> None:
        # `exception()` also marks the error as retrieved, in case every client has disconnected.
        failed = read.cancelled() or read.exception() is not None or read.result() is None
        if (failed or len(self._reads) > MAX_KEPT) and self._reads.get(key) is read:
            del self._reads[key]
