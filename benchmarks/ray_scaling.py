"""A discrete simulation of executor `ray` from 1 to 512 GPUs: where the driver becomes the limit.

    python benchmarks/ray_scaling.py

The scheduler is the real one, `engine.cluster.pool.Pool`, between simulated actors and a simulated
clock. The driver is busy for `--driver-ms` for each group and `--lane-us` for each of its lanes; an
actor's group takes `--group-seconds` on average, drawn from a lognormal distribution with
`--sigma` (0 is always the same; with 1.0 one in a hundred takes six times the mean).
docs/scaling.md says how the defaults were measured.

Prints for each number of GPUs and of lanes: the efficiency (work done / GPUs × time, loading left
out), the driver's busy share, and the largest number of groups that waited to be committed.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import math
import random
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from statebridge.engine.cluster import pool as pools
from statebridge.experiment import Experiment

EXPERIMENT = Experiment.model_validate(
    {
        "name": "simulated",
        "sender": {"model": "no/sender", "layer": 1},
        "receiver": {"model": "no/receiver", "layer": 1},
        "dataset": {"generate": {"rows": 2}},
        "conditions": ["no_inject"],
        "execution": {"device": "cpu"},
    }
)
LATENCY = 0.001
"""Seconds for a call to reach an actor, and for its answer to come back."""


class ActorError(Exception):
    """Never raised here."""


@dataclass
class Clock:
    """Simulated time, and the answers that are on their way to the driver."""

    now: float = 0.0
    busy: float = 0.0
    """Seconds that the driver worked."""
    coming: list[tuple[float, int, Future[Any], Any]] = field(default_factory=list)
    arrived: deque[Future[Any]] = field(default_factory=deque)
    count: Iterator[int] = field(default_factory=itertools.count)

    def work(self, seconds: float) -> None:
        """Let the driver work."""
        self.now += seconds
        self.busy += seconds

    def put(self, answer: Future[Any]) -> None:
        """Take an answer, as a queue of answers does."""
        self.arrived.append(answer)

    def get(self, timeout: float) -> Future[Any]:
        """Return the next answer, once its time has come, however long that is."""
        del timeout
        if not self.arrived:
            at, _, answer, value = heapq.heappop(self.coming)
            self.now = max(self.now, at)
            answer.set_result(value)
        return self.arrived.popleft()


class Actor:
    """Carries out groups one after another; a group is its place and its duration in seconds."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.free_at = clock, 0.0

    def __getattr__(self, method: str) -> Any:
        return SimpleNamespace(remote=lambda *arguments: self._called(method, arguments))

    def _called(self, method: str, arguments: tuple[Any, ...]) -> Any:
        answer: Future[Any] = Future()
        begins = max(self.free_at, self.clock.now + LATENCY)
        value = arguments[1] if method == "do" else None
        self.free_at = begins + (0.0 if value is None else value[1])
        entry = (self.free_at + LATENCY, next(self.clock.count), answer, value)
        if method in ("do", "open"):
            heapq.heappush(self.clock.coming, entry)
        return SimpleNamespace(future=lambda: answer)


def simulate(
    gpus: int, groups: int, draw: Callable[[], float], driver: float
) -> tuple[float, float, int]:
    """Return efficiency, the driver's busy share, and the most groups that waited.

    Args:
        gpus: Number of actors.
        groups: Number of groups.
        draw: Gives the seconds of a group.
        driver: Seconds that the driver works for a group.
    """
    clock = Clock()
    ray = SimpleNamespace(
        remote=lambda _: SimpleNamespace(
            options=lambda **_: SimpleNamespace(remote=lambda *_: Actor(clock))
        ),
        put=lambda value: value,
        exceptions=SimpleNamespace(RayActorError=ActorError, RayError=ActorError),
    )
    task = SimpleNamespace(experiment=EXPERIMENT)
    items = ((place, draw()) for place in range(groups))
    with (
        patch.object(pools, "check_nodes", lambda *_: {}),
        patch.object(pools, "count_workers", lambda *_: gpus),
    ):
        pool = pools.Pool(ray, EXPERIMENT.execution, EXPERIMENT, clock)  # type: ignore[arg-type]
    waiting: set[int] = set()
    oldest, most, seconds = 0, 0, 0.0
    for place, duration in pool.work(task, items):  # type: ignore[arg-type]
        clock.work(driver)
        seconds += duration
        waiting.add(place)
        most = max(most, len(waiting))
        while oldest in waiting:
            waiting.remove(oldest)
            oldest += 1
    return seconds / (gpus * clock.now), clock.busy / clock.now, most


def draws(mean: float, sigma: float, seed: int = 0) -> Callable[[], float]:
    """Return a function that draws durations of that mean."""
    generator = random.Random(seed)
    centre = math.log(mean) - sigma**2 / 2
    return lambda: generator.lognormvariate(centre, sigma)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gpus", type=int, nargs="*", default=[1, 8, 64, 128, 256, 512])
    parser.add_argument("--lanes", type=int, nargs="*", default=[10**4, 10**6, 10**8])
    parser.add_argument("--lanes-a-group", type=int, default=500)
    parser.add_argument("--group-seconds", type=float, default=5.0)
    parser.add_argument("--sigma", type=float, nargs="*", default=[0.0, 1.0])
    parser.add_argument("--driver-ms", type=float, default=11.5)
    parser.add_argument("--lane-us", type=float, default=11.0)
    asked = parser.parse_args()
    driver = asked.driver_ms / 1e3 + asked.lanes_a_group * asked.lane_us / 1e6
    print("| lanes | groups | sigma | GPUs | efficiency | driver busy | most groups waiting |")
    print("|---|---|---|---|---|---|---|")
    for lanes, sigma, gpus in itertools.product(asked.lanes, asked.sigma, asked.gpus):
        groups = max(1, lanes // asked.lanes_a_group)
        draw = draws(asked.group_seconds, sigma)
        efficiency, busy, most = simulate(gpus, groups, draw, driver)
        row = [f"{lanes:.0e}", groups, f"{sigma:g}", gpus, f"{efficiency:.1%}", f"{busy:.1%}", most]
        print(f"| {' | '.join(map(str, row))} |", flush=True)


if __name__ == "__main__":
    main()
