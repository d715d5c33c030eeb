"""/v1/pairs: which pairs experiments may name, and what of them is loaded."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel

from statebridge_server.api.context import Reader, Server, ServerState
from statebridge_server.api.views import PairView
from statebridge_server.store.turns import worker_state

router = APIRouter(prefix="/v1/pairs", tags=["pairs"])


class PairList(BaseModel):
    """The pairs of this server."""

    pairs: list[PairView]


@router.get("")
def list_pairs(server: ServerState, _who: Reader) -> PairList:
    """List the pairs of this server."""
    return PairList(pairs=pair_views(server))


def pair_views(server: Server) -> list[PairView]:
    """Return every listed pair, with what the worker says of it while one lives."""
    worker = worker_state(server.database)
    alive = worker is not None and worker.pid == server.supervisor.pid
    known: dict[str, Any] = worker.pairs if worker is not None and alive else {}
    loading = worker.detail if worker is not None and alive and worker.state == "loading" else None
    views = []
    for name, listed in server.settings.pairs.items():
        loaded = known.get(name)
        error = loaded.get("error") if loaded else None
        views.append(
            PairView(
                name=name,
                sender=listed.sender.public_name,
                sender_revision=listed.sender.revision,
                receiver=listed.receiver.public_name,
                receiver_revision=listed.receiver.revision,
                dtypes=list(listed.dtypes),
                state=(
                    "failed"
                    if error
                    else "loaded"
                    if loaded
                    else "loading"
                    if loading == name
                    else "not loaded"
                ),
                error=error,
                loaded=None if error else loaded,
            )
        )
    return views
