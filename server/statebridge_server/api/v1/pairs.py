"""/v1/pairs: the pairs that experiments may name; and the states of the workers that hold them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from fastapi import APIRouter

from statebridge.results.service_records import PairInfo, PairList, PairState
from statebridge_server.api.context import Reader, Server, ServerState
from statebridge_server.store.queue import worker_states

FRESH_SECONDS = 30.0
"""A worker whose record is older is not ready."""

_WORKER_STATES = ("ready", "running", "loading", "starting", "waiting", "absent")
"""The states of a worker, the most useful one for a client first."""

_PAIR_STATES: tuple[PairState, ...] = get_args(PairState)
"""The states of a pair; the first one that any worker has is shown."""

router = APIRouter(prefix="/v1/pairs", tags=["pairs"])


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
        known = worker.state in _WORKER_STATES
        return not worker.fresh, _WORKER_STATES.index(worker.state) if known else len(
            _WORKER_STATES
        )

    return min(workers, key=place)


@router.get("")
def list_pairs(server: ServerState, _who: Reader) -> PairList:
    """List the pairs of this server."""
    return PairList(pairs=pair_views(server, seen_workers(server)))


def pair_views(server: Server, workers: Sequence[SeenWorker]) -> list[PairInfo]:
    """Return every listed pair, with what the workers that live say of it."""
    views = []
    for name, listed in server.settings.pairs.items():
        states = [_state(name, worker) for worker in workers if worker.state != "absent"]
        reports = [(worker, worker.pairs.get(name) or {}) for worker in workers]
        views.append(
            PairInfo(
                name=name,
                sender=listed.sender.public_name,
                sender_revision=listed.sender.revision,
                receiver=listed.receiver.public_name,
                receiver_revision=listed.receiver.revision,
                dtypes=list(listed.dtypes),
                state=min(states, key=_PAIR_STATES.index, default="not loaded"),
                error=_errors(reports),
                loaded=_loaded(reports),
            )
        )
    return views


def _state(name: str, worker: SeenWorker) -> PairState:
    known = worker.pairs.get(name)
    if known:
        return "failed" if "error" in known else "loaded"
    return "loading" if (worker.state, worker.detail) == ("loading", name) else "not loaded"


def _errors(reports: Sequence[tuple[SeenWorker, Mapping[str, Any]]]) -> str | None:
    found = [(worker, known["error"]) for worker, known in reports if "error" in known]
    if not found:
        return None
    if len(reports) == 1:
        return str(found[0][1])
    return "; ".join(f"worker {worker.slot} ({worker.device}): {error}" for worker, error in found)


def _loaded(
    reports: Sequence[tuple[SeenWorker, Mapping[str, Any]]],
) -> dict[str, list[dict[str, Any]]] | None:
    """Return the loaded models of all workers, for each side."""
    held = [known for _, known in reports if known and "error" not in known]
    if not held:
        return None
    return {side: [each for known in held for each in known[side]] for side in held[0]}
