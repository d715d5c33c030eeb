"""One timer for all that look again every so often."""

from __future__ import annotations

import asyncio


class SharedTimer:
    """Wakes all who wait together, so that many waiting cost the event loop one turn.

    Twenty event streams with timers of their own would wake the process seventy times a second,
    each time in the way of the models' threads.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._ring: asyncio.Event | None = None

    async def wait(self) -> None:
        """Wait for the next ring: `seconds` after the first of those who now wait began to."""
        if self._ring is None:
            self._ring = asyncio.Event()
            asyncio.get_running_loop().call_later(self._seconds, self._wake)
        await self._ring.wait()

    def _wake(self) -> None:
        ring, self._ring = self._ring, None
        if ring is not None:
            ring.set()
