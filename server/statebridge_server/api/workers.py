"""The worker processes as the interface sees them: which live, and what they say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from statebridge_server.api.context import Server
from statebridge_server.store.turns import worker_states

FRESH_SECONDS = 30.0
"""A worker that has said nothing for longer is not ready."""

_AHEAD = ("ready", "running", "loading", "starting", "waiting", "absent")
"""The states of a worker, from the most to the least of use to who asks."""


@dataclass(frozen=True, slots=True)
class SeenWorker:
    """One slot's worker.

    Attributes:
        device: What the operator declares for it; two where the sender has its own.
        state: starting, loading, ready, running, waiting (nothing can be stored) or absent.
        detail: What is being loaded, waited for, or run.
        pairs: By name what is loaded, or why it could not be; empty while it is absent.
        fresh: Whether it has said something lately.
    """

    slot: int
    device: str
    state: str
    detail: str
    pairs: dict[str, Any]
    fresh: bool


def seen_workers(server: Server) -> list[SeenWorker]:
    """Return all slots' workers, in order."""
    states = worker_states(server.database)
    seen = []
    for slot, devices in enumerate(server.settings.workers):
        said = states.get(slot)
        on = devices.device
        if devices.sender_device is not None:
            on = f"sender {devices.sender_device}, receiver {devices.device}"
        # What stands there may be of a worker that is dead.
        if said is None or said.pid != server.supervisor.pid(slot):
            seen.append(SeenWorker(slot, on, "absent", "", {}, fresh=False))
            continue
        fresh = server.heartbeats[slot].age(said.beat_at) < FRESH_SECONDS
        seen.append(SeenWorker(slot, on, said.state, said.detail, said.pairs, fresh))
    return seen


def most_ready(workers: list[SeenWorker]) -> SeenWorker:
    """Return the worker that is the furthest."""

    def place(worker: SeenWorker) -> tuple[bool, int]:
        known = worker.state in _AHEAD
        return not worker.fresh, _AHEAD.index(worker.state) if known else len(_AHEAD)

    return min(workers, key=place)
