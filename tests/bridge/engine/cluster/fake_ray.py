"""A Ray without processes: its actors run here, in an order drawn from a seed, and die on cue."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any


class RayError(Exception):
    """As `ray.exceptions.RayError`."""


class RayActorError(RayError):
    """As `ray.exceptions.RayActorError`."""


class Death(BaseException):
    """Raised by an item that ends the process of its actor."""


class FakeActor:
    """Carries out calls one after another once `FakeRay.wait` lets it."""

    def __init__(self, ray: FakeRay) -> None:
        self.ray, self.alive = ray, True
        self.calls: deque[tuple[object, str, tuple[Any, ...]]] = deque()
        self.ready: Callable[[Any], Any] | None = None

    def __getattr__(self, method: str) -> Any:
        return SimpleNamespace(remote=lambda *arguments: self._queued(method, arguments))

    def _queued(self, method: str, arguments: tuple[Any, ...]) -> object:
        call = object()
        if not self.alive:
            self.ray.answers[call] = RayActorError("The actor died before.")
        self.calls.append((call, method, arguments))
        return call

    def step(self) -> None:
        """Carry the next call out."""
        call, method, arguments = self.calls.popleft()
        try:
            self.ray.answers[call] = self._answer(method, arguments)
        except Death:
            self.end("The process exited with code 1.")
            self.ray.answers[call] = RayActorError("The process exited with code 1.")
        except RayError as error:
            self.ray.answers[call] = error

    def end(self, why: str) -> None:
        """Die: calls that wait are answered by an error."""
        self.alive = False
        self.ray.answers.update((call, RayActorError(why)) for call, _, _ in self.calls)
        self.calls.clear()

    def _answer(self, method: str, arguments: tuple[Any, ...]) -> Any:
        if method == "open":
            self.ready = arguments[1].open(self)
        if method == "do":
            assert self.ready is not None
            return self.ready(arguments[1])
        return None


class FakeRay:
    """The part of the module `ray` that the pool uses."""

    exceptions = SimpleNamespace(RayError=RayError, RayActorError=RayActorError)

    def __init__(self, seed: int = 0) -> None:
        self.random = random.Random(seed)
        self.answers: dict[object, Any] = {}
        self.actors: list[FakeActor] = []
        self.slow: set[FakeActor] = set()
        """Actors that do nothing."""
        self.there: list[dict[str, Any]] = []
        """Nodes, as `ray.nodes()` returns them."""

    def remote(self, _: type) -> Any:
        return SimpleNamespace(options=lambda **_: SimpleNamespace(remote=self._start))

    def _start(self, *_: Any) -> FakeActor:
        self.actors.append(FakeActor(self))
        return self.actors[-1]

    def put(self, value: Any) -> Any:
        return value

    def get(self, call: object) -> Any:
        found = self.answers[call]
        if isinstance(found, RayError):
            raise found
        return found

    def wait(self, calls: list[object], **_: Any) -> tuple[list[object], list[object]]:
        while True:
            ready = [call for call in calls if call in self.answers]
            if ready:
                return [self.random.choice(ready)], []
            able = [a for a in self.actors if a.alive and a.calls and a not in self.slow]
            if not able:
                return [], calls
            self.random.choice(able).step()

    def kill(self, actor: FakeActor) -> None:
        actor.end("The actor was killed.")

    def nodes(self) -> list[dict[str, Any]]:
        return self.there

    def cluster_resources(self) -> dict[str, float]:
        return {
            name: sum(node["Resources"].get(name, 0) for node in self.there if node["Alive"])
            for name in ("CPU", "GPU")
        }
