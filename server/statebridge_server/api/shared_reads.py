"""Readings of the database that requests share while nothing is committed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from anyio import to_thread

from statebridge_server.store.changes import Changes

Found = TypeVar("Found")

MOST_KEPT = 100
"""Readings that are given again once they have ended."""


class SharedReads:
    """One reading for all who ask the same between two commits.

    Twenty event streams that open at once would else be twenty threads, each of them in the way
    of all others and of the event loop.
    """

    def __init__(self, changes: Changes) -> None:
        self._changes = changes
        self._version: int | None = None
        self._readings: dict[Hashable, asyncio.Future[Any]] = {}

    async def read(
        self,
        read: Callable[..., Found],
        *given: Hashable,
        keep: Callable[[Found], bool] = lambda found: found is not None,
    ) -> Found:
        """Return what `read(*given)` returns, as it is now or later; it runs on a thread.

        Where `read` raises, all who wait for it get its error, and who asks later reads anew.

        Args:
            read: A function of the database and of what is given.
            given: What tells one question from another; holds no secret, since it is kept.
            keep: Whether what was read is given again to who asks later.
        """
        # Before anything is read: what is read is then at least as new.
        version = self._changes.version()
        if version is None:
            return await to_thread.run_sync(read, *given)
        if version != self._version:
            self._version = version
            # Those who wait for one that goes on asked before this commit, and have it in hand.
            self._readings.clear()
        key = (read, *given)
        reading: asyncio.Future[Found] | None = self._readings.get(key)
        if reading is None:
            reading = asyncio.ensure_future(to_thread.run_sync(read, *given))
            self._readings[key] = reading
            # Of the reading itself: whoever waits for it may be cancelled.
            reading.add_done_callback(lambda done: self._ended(key, done, keep))
        # Shielded: that one client goes must not end the others' reading.
        return await asyncio.shield(reading)

    def _ended(
        self, key: Hashable, reading: asyncio.Future[Found], keep: Callable[[Found], bool]
    ) -> None:
        # Asking for the exception also tells asyncio that it was seen.
        worth = not reading.cancelled() and reading.exception() is None and keep(reading.result())
        crowded = len(self._readings) > MOST_KEPT
        if (crowded or not worth) and self._readings.get(key) is reading:
            del self._readings[key]
