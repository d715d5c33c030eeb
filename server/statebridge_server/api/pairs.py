"""/v1/pairs: which pairs experiments may name, and what of them is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

from fastapi import APIRouter

from statebridge.results.service_records import PairInfo, PairList, PairState
from statebridge_server.api.context import Reader, Server, ServerState
from statebridge_server.api.workers import SeenWorker, seen_workers

_AHEAD: tuple[PairState, ...] = get_args(PairState)
"""Of several workers' states the first of these is the pair's."""

router = APIRouter(prefix="/v1/pairs", tags=["pairs"])


@router.get("")
def list_pairs(server: ServerState, _who: Reader) -> PairList:
    """List the pairs of this server."""
    return PairList(pairs=pair_views(server, seen_workers(server)))


def pair_views(server: Server, workers: Sequence[SeenWorker]) -> list[PairInfo]:
    """Return every listed pair, with what the workers that live say of it."""
    views = []
    for name, listed in server.settings.pairs.items():
        states = [_state(name, worker) for worker in workers if worker.state != "absent"]
        said = [(worker, worker.pairs.get(name) or {}) for worker in workers]
        views.append(
            PairInfo(
                name=name,
                sender=listed.sender.public_name,
                sender_revision=listed.sender.revision,
                receiver=listed.receiver.public_name,
                receiver_revision=listed.receiver.revision,
                dtypes=list(listed.dtypes),
                state=min(states, key=_AHEAD.index, default="not loaded"),
                error=_errors(said),
                loaded=_loaded(said),
            )
        )
    return views


def _state(name: str, worker: SeenWorker) -> PairState:
    known = worker.pairs.get(name)
    if known:
        return "failed" if "error" in known else "loaded"
    return "loading" if (worker.state, worker.detail) == ("loading", name) else "not loaded"


def _errors(said: Sequence[tuple[SeenWorker, Mapping[str, Any]]]) -> str | None:
    found = [(worker, known["error"]) for worker, known in said if "error" in known]
    if not found:
        return None
    if len(said) == 1:
        return str(found[0][1])
    return "; ".join(f"worker {worker.slot} ({worker.device}): {error}" for worker, error in found)


def _loaded(
    said: Sequence[tuple[SeenWorker, Mapping[str, Any]]],
) -> dict[str, list[dict[str, Any]]] | None:
    """Return for each side what all workers hold of it."""
    held = [known for _, known in said if known and "error" not in known]
    if not held:
        return None
    return {side: [each for known in held for each in known[side]] for side in held[0]}
