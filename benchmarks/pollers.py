"""Pollers and open event streams beside a server, in one process.

    python benchmarks/pollers.py URL --pollers 20 --streams 5

The key is read from STATEBRIDGE_API_KEY. The experiment's id comes on standard input; the end of
standard input ends the load, and one line of JSON states what was seen. Each poller asks every
`--interval` seconds, at a phase drawn once. Latencies are as a client sees them, from before the
request until the whole answer, the delays of this process included.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
import time
from collections import Counter
from typing import Any

import httpx

QUANTILES = {"p50": 0.50, "p90": 0.90, "p99": 0.99, "max": 1.0}


def quantile(times: list[float], share: float) -> float | None:
    """The smallest time that at least this share of all times does not exceed."""
    if not times:
        return None
    return round(sorted(times)[max(0, -int(-share * len(times) // 1) - 1)], 3)


class Load:
    """The pollers and streams of one experiment, and what they saw."""

    def __init__(self, client: httpx.AsyncClient, experiment_id: str) -> None:
        self._client, self._path = client, f"/v1/experiments/{experiment_id}"
        self.milliseconds: list[float] = []
        self.statuses: Counter[str] = Counter()
        self.events = 0

    async def poll(self, phase: float, interval: float) -> None:
        """Ask again and again at fixed times, until cancelled."""
        due = time.perf_counter() + phase
        while True:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            began = time.perf_counter()
            try:
                answer = await self._client.get(self._path)
            except httpx.TransportError as error:
                self.statuses[type(error).__name__] += 1
            else:
                self.statuses[str(answer.status_code)] += 1
                self.milliseconds.append(1000 * (time.perf_counter() - began))
            due = max(due + interval, time.perf_counter())

    async def follow(self) -> None:
        """Read an event stream until it ends."""
        async with self._client.stream("GET", f"{self._path}/events") as answer:
            async for line in answer.aiter_lines():
                self.events += line.startswith("id:")

    def record(self) -> dict[str, Any]:
        return {
            "requests": sum(self.statuses.values()),
            "statuses": dict(self.statuses),
            "events": self.events,
            "milliseconds": {name: quantile(self.milliseconds, q) for name, q in QUANTILES.items()},
        }


async def run(options: argparse.Namespace) -> dict[str, Any]:
    """Wait for the id, and put the load on the server until standard input ends."""
    headers = {"Authorization": f"Bearer {os.environ['STATEBRIDGE_API_KEY']}"}
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(
        base_url=options.url, headers=headers, limits=limits, timeout=None
    ) as client:
        load = Load(client, (await asyncio.to_thread(sys.stdin.readline)).strip())
        began, worked = time.perf_counter(), time.process_time()
        phases = [random.Random(n).random() * options.interval for n in range(options.pollers)]
        tasks = [asyncio.create_task(load.poll(phase, options.interval)) for phase in phases]
        tasks += [asyncio.create_task(load.follow()) for _ in range(options.streams)]
        await asyncio.to_thread(sys.stdin.read)
        for task in tasks:
            task.cancel()
        for ended in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(ended, Exception):  # a cancellation is none
                raise ended
        return load.record() | {
            "seconds": round(time.perf_counter() - began, 2),
            "cpu_seconds": round(time.process_time() - worked, 3),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--pollers", type=int, default=20)
    parser.add_argument("--streams", type=int, default=5)
    parser.add_argument("--interval", type=float, default=2.0)
    print(json.dumps(asyncio.run(run(parser.parse_args()))), flush=True)


if __name__ == "__main__":
    main()
