"""All who wait are woken together, and whoever comes later or goes changes nothing for them."""

from __future__ import annotations

import asyncio
import time

from statebridge_server.api.shared_timer import SharedTimer

SECONDS = 0.2


def test_those_who_wait_are_woken_together() -> None:
    async def work() -> None:
        timer = SharedTimer(SECONDS)
        loop = asyncio.get_running_loop()
        set_timers = []
        call_later = loop.call_later
        loop.call_later = lambda *given, **named: (  # type: ignore[method-assign]
            set_timers.append(given[0]) or call_later(*given, **named)  # type: ignore[func-returns-value]
        )
        began = time.monotonic()
        first = [asyncio.create_task(timer.wait()) for _ in range(20)]
        await asyncio.sleep(SECONDS / 2)
        late = asyncio.create_task(timer.wait())
        gone = first.pop()
        gone.cancel()
        await asyncio.gather(*first, late)
        assert SECONDS * 0.9 < time.monotonic() - began < SECONDS * 1.5 + 1
        assert gone.cancelled()
        assert set_timers.count(SECONDS) == 1
        # Whoever comes after the ring waits for the next one.
        began = time.monotonic()
        await timer.wait()
        assert time.monotonic() - began > SECONDS * 0.9
        assert set_timers.count(SECONDS) == 2

    asyncio.run(asyncio.wait_for(work(), 30))


def test_that_all_go_stops_nobody_later() -> None:
    async def work() -> None:
        timer = SharedTimer(SECONDS)
        gone = asyncio.create_task(timer.wait())
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
        for _ in range(2):
            await timer.wait()

    asyncio.run(asyncio.wait_for(work(), 30))
