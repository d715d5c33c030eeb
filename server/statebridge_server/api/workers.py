"""The worker processes as the HTTP interface sees them: which live, and their states."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from statebridge_server.api.context import Server
from statebridge_server.store.turns import worker_states

FRESH_SECONDS = 30.0
"""A worker whose record is older is not ready."""

_AHEAD = ("ready", "running", "loading", "starting", "waiting", "absent")
"""The states of a worker, the most useful one for a client first."""


@dataclass(frozen=True, slots=True)
class SeenWorker:
    """One slot's worker.

    Attributes:
        device: The device that the operator declares; two if the sender has its own.
        state: starting, loading, ready, running, waiting (nothing can be stored) or absent.
        detail: The model that is loading, the condition to wait for, or the job.
        pairs: By name, the loaded models or the error; empty while the worker is absent.
        fresh: Whether its record is recent.
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
        state = states.get(slot)
        on = devices.device
        if devices.sender_device is not None:
            on = f"sender {devices.sender_device}, receiver {devices.device}"
        # The record may be of a dead worker.
        if state is None or state.pid != server.supervisor.pid(slot):
            seen.append(SeenWorker(slot, on, "absent", "", {}, fresh=False))
            continue
        fresh = server.heartbeats[slot].age(state.beat_at) < FRESH_SECONDS
        seen.append(SeenWorker(slot, on, state.state, state.detail, state.pairs, fresh))
    return seen


def most_ready(workers: list[SeenWorker]) -> SeenWorker:
    """Return the worker whose state is the most useful."""

    def place(worker: SeenWorker) -> tuple[bool, int]:
        known = worker.state in _AHEAD
        return not worker.fresh, _AHEAD.index(worker.state) if known else len(_AHEAD)

    return min(workers, key=place)
