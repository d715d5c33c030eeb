"""Pollers and open event streams beside a server: one process, as little work as asyncio allows.

    python benchmarks/pollers.py HOST PORT --pollers 200 --streams 20

The key is read from STATEBRIDGE_API_KEY. Each poller has a connection of its own and asks
every `--interval` seconds, at a phase drawn once. The experiment's id comes on standard input,
once all connections stand, which is said on standard output; the end of standard input ends
the load, and what was seen is printed as one line of JSON. Latencies are from the request's
first byte to the answer's last, this process's own delays included. What those are like is seen
by a clock that this process sets itself a hundred times a second.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class Seen:
    """What the load saw."""

    milliseconds: list[float] = field(default_factory=list)
    own_delays: list[float] = field(default_factory=list)
    """Milliseconds by which this process woke up later than it had wanted to."""
    statuses: Counter[int] = field(default_factory=Counter)
    broken: int = 0
    """Requests whose connection ended without an answer."""
    late: int = 0
    """Requests that were due before the last one of the same poller was answered."""
    events: int = 0

    def record(self, seconds: float, cpu_seconds: float) -> dict[str, Any]:
        times, delays = sorted(self.milliseconds), sorted(self.own_delays)
        return {
            "requests": len(times),
            "seconds": round(seconds, 2),
            "statuses": {str(status): count for status, count in self.statuses.items()},
            "broken": self.broken,
            "late": self.late,
            "events": self.events,
            "milliseconds": {name: quantile(times, q) for name, q in QUANTILES.items()},
            "own_delays": {name: quantile(delays, q) for name, q in QUANTILES.items()},
            "cpu_seconds": round(cpu_seconds, 3),
        }


TICK_SECONDS = 0.01
QUANTILES = {"p50": 0.50, "p90": 0.90, "p99": 0.99, "max": 1.0}


def quantile(times: list[float], share: float) -> float | None:
    """The smallest time that at least this share of all did not exceed."""
    if not times:
        return None
    return round(times[max(0, -int(-share * len(times) // 1) - 1)], 3)


def request(path: str, host: str, key: str, accept: str) -> bytes:
    """A GET request as it goes over the wire."""
    lines = (
        f"GET {path} HTTP/1.1",
        f"Host: {host}",
        f"Authorization: Bearer {key}",
        f"Accept: {accept}",
    )
    return "\r\n".join((*lines, "", "")).encode("ascii")


async def ask(connection: Connection, content: bytes) -> int:
    """Send a request, read the whole answer, return its status."""
    reader, writer = connection
    writer.write(content)
    head = await reader.readuntil(b"\r\n\r\n")
    lowered = head.lower()
    at = lowered.index(b"content-length:") + 15
    await reader.readexactly(int(lowered[at : lowered.index(b"\r\n", at)]))
    return int(head[9:12])


async def poll(
    connection: Connection, address: tuple[str, int], content: bytes, wait: float, interval: float
) -> None:
    """Ask again and again, at fixed times, until cancelled."""
    due = time.perf_counter() + wait
    try:
        while True:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            began = time.perf_counter()
            try:
                SEEN.statuses[await ask(connection, content)] += 1
            except (OSError, asyncio.IncompleteReadError):
                SEEN.broken += 1
                connection[1].close()
                connection = await asyncio.open_connection(*address)
            else:
                SEEN.milliseconds.append(1000 * (time.perf_counter() - began))
            due += interval
            while due < time.perf_counter():
                SEEN.late += 1
                due += interval
    finally:
        connection[1].close()


async def follow(connection: Connection, content: bytes) -> None:
    """Read an event stream until it ends."""
    reader, writer = connection
    writer.write(content)
    with suppress(OSError):
        while line := await reader.readline():
            SEEN.events += line.startswith(b"id:")


async def watch_delays() -> None:
    """Note how late this process wakes up, until cancelled."""
    while True:
        began = time.perf_counter()
        await asyncio.sleep(TICK_SECONDS)
        late = time.perf_counter() - began - TICK_SECONDS
        SEEN.own_delays.append(1000 * max(0.0, late))


SEEN = Seen()


async def load(options: argparse.Namespace) -> dict[str, Any]:
    """Open everything, wait for the id, and go on until standard input ends."""
    address = (options.host, options.port)
    host, key = f"{options.host}:{options.port}", os.environ["STATEBRIDGE_API_KEY"]
    count = options.pollers + options.streams
    connections = [await asyncio.open_connection(*address) for _ in range(count)]
    print("ready", flush=True)
    loop = asyncio.get_running_loop()
    lines: asyncio.Queue[str] = asyncio.Queue()

    def read() -> None:
        for line in iter(sys.stdin.readline, ""):
            loop.call_soon_threadsafe(lines.put_nowait, line.strip())
        loop.call_soon_threadsafe(lines.put_nowait, "")

    threading.Thread(target=read, daemon=True).start()
    path = f"/v1/experiments/{await lines.get()}"
    began, worked = time.perf_counter(), time.process_time()
    draw = random.Random(0)
    question = request(path, host, key, "application/json")
    tasks = [
        asyncio.create_task(
            poll(each, address, question, draw.random() * options.interval, options.interval)
        )
        for each in connections[: options.pollers]
    ]
    stream = request(f"{path}/events", host, key, "text/event-stream")
    tasks += [asyncio.create_task(follow(each, stream)) for each in connections[options.pollers :]]
    tasks.append(asyncio.create_task(watch_delays()))
    await lines.get()
    for task in tasks:
        task.cancel()
    for ended in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(ended, Exception):  # which a cancellation is not
            raise ended
    return SEEN.record(time.perf_counter() - began, time.process_time() - worked)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("--pollers", type=int, default=200)
    parser.add_argument("--streams", type=int, default=20)
    parser.add_argument("--interval", type=float, default=2.0)
    print(json.dumps(asyncio.run(load(parser.parse_args()))), flush=True)


if __name__ == "__main__":
    main()
