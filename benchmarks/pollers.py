"""Pollers and open event streams beside a server: one process that works as little as it can.

    python benchmarks/pollers.py HOST PORT --pollers 200 --streams 20

The key is read from STATEBRIDGE_API_KEY. Each poller has a connection of its own and asks
every `--interval` seconds, at a phase drawn once. The experiment's id comes on standard input,
once all connections stand, which is said on standard output; the end of standard input ends
the load, and what was seen is printed as one line of JSON. Latencies are from the request's
first byte to the answer's last, this process's own delays included. What those are like is seen
by a clock that this process sets itself ten times a second.
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
from typing import Any, cast

import uvloop


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


TICK_SECONDS = 0.1
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


class Poller(asyncio.Protocol):
    """One client that asks again and again, at fixed times, on one connection."""

    def __init__(self, address: tuple[str, int], interval: float) -> None:
        self._address, self._interval = address, interval
        self._content = b""
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._began: float | None = None
        self._due = 0.0
        self._answer = b""
        self._stopped = False

    async def connect(self) -> None:
        """Open the connection; where one was lost, in its place."""
        await self._loop.create_connection(lambda: self, *self._address)

    def start(self, content: bytes, wait: float) -> None:
        """Ask for the first time after `wait` seconds."""
        self._content = content
        self._due = self._loop.time() + wait
        self._loop.call_at(self._due, self._ask)

    def stop(self) -> None:
        """Ask no more, and close the connection."""
        self._stopped = True
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._answer += data
        status = whole(self._answer)
        if status is not None:
            assert self._began is not None, "an answer that was not asked for"
            SEEN.statuses[status] += 1
            SEEN.milliseconds.append(1000 * (time.perf_counter() - self._began))
            self._ask_later()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's name
        if self._stopped:
            return
        self._transport = None
        task = self._loop.create_task(self.connect())
        task.add_done_callback(self._connected_again)

    def _connected_again(self, task: asyncio.Task[None]) -> None:
        if task.exception() is not None:
            self._loop.call_later(self._interval, self.connection_lost, None)
        elif self._stopped:
            self.stop()
        elif self._began is not None:
            SEEN.broken += 1
            self._ask_later()

    def _ask(self) -> None:
        if self._stopped:
            return
        self._began = time.perf_counter()  # the loop's own clock counts milliseconds
        if self._transport is not None:  # else it is seen as broken once it is there again
            self._transport.write(self._content)

    def _ask_later(self) -> None:
        self._answer, self._began = b"", None
        self._due += self._interval
        while self._due < self._loop.time():
            SEEN.late += 1
            self._due += self._interval
        self._loop.call_at(self._due, self._ask)


def whole(answer: bytes) -> int | None:
    """The status of an answer; None as long as something of it is still to come."""
    head, end, body = answer.partition(b"\r\n\r\n")
    if not end:
        return None
    lowered = head.lower() + b"\r\n"
    at = lowered.index(b"content-length:") + 15
    if len(body) < int(lowered[at : lowered.index(b"\r\n", at)]):
        return None
    return int(head[9:12])


async def follow(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, content: bytes
) -> None:
    """Read an event stream until it ends."""
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
    streams = [await asyncio.open_connection(*address) for _ in range(options.streams)]
    pollers = [Poller(address, options.interval) for _ in range(options.pollers)]
    for poller in pollers:
        await poller.connect()
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
    for poller in pollers:
        poller.start(question, draw.random() * options.interval)
    stream = request(f"{path}/events", host, key, "text/event-stream")
    tasks = [asyncio.create_task(follow(*each, stream)) for each in streams]
    tasks.append(asyncio.create_task(watch_delays()))
    await lines.get()
    for poller in pollers:
        poller.stop()
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
    print(json.dumps(uvloop.run(load(parser.parse_args()))), flush=True)


if __name__ == "__main__":
    main()
