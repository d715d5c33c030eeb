"""/v1/pairs: the pairs that experiments may name; and the state of the worker that holds them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter

from statebridge.results.service_records import PairInfo, PairList, PairState
from statebridge_server.api.context import Reader, Server, ServerState
from statebridge_server.store.queue import worker_state

FRESH_SECONDS = 30.0
"""A worker whose record is older is not ready."""

router = APIRouter(prefix="/v1/pairs", tags=["pairs"])


@dataclass(frozen=True, slots=True)
class SeenWorker:
    """The worker, as its last record shows it.

    Attributes:
        state: starting, loading, ready, running, waiting (nothing can be stored) or absent.
        detail: The model that is loading, the condition to wait for, or the jobs.
        pairs: By name, the loaded models or the error; empty while the worker is absent.
    """

    state: str
    detail: str
    pairs: dict[str, Any]


def seen_worker(server: Server) -> SeenWorker:
    """Return the worker; it is absent if its record is old, or of a dead one."""
    found = worker_state(server.database)
    if found is None or found.pid != server.supervisor.pid:
        return SeenWorker("absent", "", {})
    fresh = server.heartbeat.age(found.beat_at) < FRESH_SECONDS
    return SeenWorker(found.state if fresh else "absent", found.detail, found.pairs)


@router.get("")
def list_pairs(server: ServerState, _who: Reader) -> PairList:
    """List the pairs of this server."""
    return PairList(pairs=pair_views(server, seen_worker(server)))


def pair_views(server: Server, worker: SeenWorker) -> list[PairInfo]:
    """Return every listed pair, with what the worker says of it."""
    views = []
    for name, listed in server.settings.pairs.items():
        known = worker.pairs.get(name) or {}
        failed = "error" in known
        views.append(
            PairInfo(
                name=name,
                sender=listed.sender.public_name,
                sender_revision=listed.sender.revision,
                receiver=listed.receiver.public_name,
                receiver_revision=listed.receiver.revision,
                dtypes=list(listed.dtypes),
                state=_state(name, worker),
                error=str(known["error"]) if failed else None,
                loaded=known if known and not failed else None,
            )
        )
    return views


def _state(name: str, worker: SeenWorker) -> PairState:
    known = worker.pairs.get(name)
    if known:
        return "failed" if "error" in known else "loaded"
    return "loading" if (worker.state, worker.detail) == ("loading", name) else "not loaded"
