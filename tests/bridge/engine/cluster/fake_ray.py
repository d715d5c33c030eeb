"""A Ray without processes: its actors run here, in an order drawn from a seed, and die on cue."""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from queue import Empty
from types import SimpleNamespace
from typing import Any


class RayError(Exception):
    """As `ray.exceptions.RayError`."""


class RayActorError(RayError):
    """As `ray.exceptions.RayActorError`."""


class Death(BaseException):
    """Raised by an item that ends the process of its actor."""


class Hang(BaseException):
    """Raised by an item that never ends."""


class FakeActor:
    """Carries out calls one after another once `FakeQueue.get` lets it."""

    def __init__(self, ray: FakeRay) -> None:
        self.ray, self.alive = ray, True
        self.calls: deque[tuple[Future[Any], str, tuple[Any, ...]]] = deque()
        self.ready: dict[str, Callable[[Any], Any]] = {}

    def __getattr__(self, method: str) -> Any:
        return SimpleNamespace(remote=lambda *arguments: self._queued(method, arguments))

    def _queued(self, method: str, arguments: tuple[Any, ...]) -> Any:
        answer: Future[Any] = Future()
        if self.alive:
            self.calls.append((answer, method, arguments))
        else:
            answer.set_exception(RayActorError("The actor died before."))
        return SimpleNamespace(future=lambda: answer)

    def step(self) -> None:
        """Carry the next call out."""
        answer, method, arguments = self.calls.popleft()
        try:
            answer.set_result(self._answer(method, arguments))
        except Death:
            answer.set_exception(RayActorError("The process exited with code 1."))
            self.end("The process exited with code 1.")
        except Hang:
            self.calls.appendleft((answer, method, arguments))
            self.ray.slow.add(self)
        except RayError as error:
            answer.set_exception(error)

    def end(self, why: str) -> None:
        """Die: calls that wait are answered by an error."""
        self.alive = False
        while self.calls:
            self.calls.popleft()[0].set_exception(RayActorError(why))

    def _answer(self, method: str, arguments: tuple[Any, ...]) -> Any:
        if method == "open":
            self.ready[arguments[0]] = arguments[1].open(self)
        if method == "do":
            return self.ready[arguments[0]](arguments[1])
        return None


class FakeRay:
    """The part of the module `ray` that the pool uses."""

    exceptions = SimpleNamespace(RayError=RayError, RayActorError=RayActorError)

    def __init__(self, seed: int = 0) -> None:
        self.random = random.Random(seed)
        self.actors: list[FakeActor] = []
        self.slow: set[FakeActor] = set()
        """Actors that do nothing."""
        self.now = 0.0
        """Seconds for which it was waited in vain."""
        self.there: list[dict[str, Any]] = []
        """Nodes, as `ray.nodes()` returns them."""

    def remote(self, _: type) -> Any:
        return SimpleNamespace(options=lambda **_: SimpleNamespace(remote=self._start))

    def _start(self, *_: Any) -> FakeActor:
        self.actors.append(FakeActor(self))
        return self.actors[-1]

    def put(self, value: Any) -> Any:
        return value

    def kill(self, actor: FakeActor) -> None:
        actor.end("The actor was killed.")

    def nodes(self) -> list[dict[str, Any]]:
        return self.there

    def cluster_resources(self) -> dict[str, float]:
        return {
            name: sum(node["Resources"].get(name, 0) for node in self.there if node["Alive"])
            for name in ("CPU", "GPU")
        }


class FakeQueue:
    """The queue of answers: asked for one, it lets actors work until there is one.

    A pool that has lost an item would ask for ever; after `PATIENCE` seconds that is an error.
    """

    PATIENCE = 20.0

    def __init__(self, ray: FakeRay) -> None:
        self.ray, self.arrived = ray, deque[Future[Any]]()
        self.answered = time.monotonic()

    def put(self, answer: Future[Any]) -> None:
        self.arrived.append(answer)

    def get(self, timeout: float) -> Future[Any]:
        while not self.arrived:
            able = [a for a in self.ray.actors if a.alive and a.calls and a not in self.ray.slow]
            if not able:
                self.ray.now += timeout
                idle = time.monotonic() - self.answered
                assert idle < self.PATIENCE, "the pool waits, and no actor has anything to do"
                raise Empty
            self.ray.random.choice(able).step()
        self.answered = time.monotonic()
        return self.arrived.popleft()
