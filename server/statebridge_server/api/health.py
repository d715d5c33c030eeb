"""/healthz, /readyz, /metrics."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from anyio import to_thread
from fastapi import APIRouter, Request, Response
from fastapi.security import HTTPAuthorizationCredentials
from fastapi.security.utils import get_authorization_scheme_param
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from pydantic import BaseModel

from statebridge_server.api.context import Server, ServerState, principal
from statebridge_server.api.v1.pairs import pair_views, seen_worker
from statebridge_server.store.jobs import counts

router = APIRouter(tags=["health"])


class Health(BaseModel):
    """That the server answers."""

    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    """Whether experiments are carried out, and what is in the way."""

    ready: bool
    worker: str
    """starting, loading, ready, running, waiting (nothing can be stored) or absent."""
    detail: str
    """The model that is loading, or the condition that the worker waits for."""
    pairs: dict[str, str]


@router.get("/healthz")
def healthz() -> Health:
    """Say that the server answers."""
    return Health()


@router.get("/readyz", responses={503: {"model": Readiness, "description": "Not ready yet."}})
def readyz(server: ServerState, response: Response) -> Readiness:
    """Say whether experiments are carried out; 503 while models load or no worker lives."""
    worker = seen_worker(server)
    pairs = {view.name: view.state for view in pair_views(server, worker)}
    none_left = bool(pairs) and set(pairs.values()) == {"failed"}
    ready = worker.state in ("ready", "running") and not none_left
    response.status_code = 200 if ready else 503
    # The id of a running experiment is not shown without a key.
    detail = worker.detail if worker.state in ("loading", "waiting") else ""
    return Readiness(ready=ready, worker=worker.state, detail=detail, pairs=pairs)


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}, "description": "Prometheus metrics."}},
)
async def metrics(request: Request, server: ServerState) -> Response:
    """Prometheus metrics; a key is needed unless `metrics_open` is set."""
    if not server.settings.metrics_open:
        scheme, token = get_authorization_scheme_param(request.headers.get("authorization"))
        sent = HTTPAuthorizationCredentials(scheme=scheme, credentials=token)
        await principal(request, server, sent if scheme.lower() == "bearer" else None)
    registry: CollectorRegistry = request.app.state.registry
    content = await to_thread.run_sync(generate_latest, registry)
    return Response(content, media_type="text/plain; version=0.0.4")


class ServerCollector(Collector):
    """Gauges that are read from the store at each scrape."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def collect(self) -> Iterator[Metric]:
        """Yield the present numbers."""
        jobs = GaugeMetricFamily("statebridge_jobs", "Experiments by state.", labels=["state"])
        for state, number in counts(self._server.database).items():
            jobs.add_metric([state], number)
        yield jobs
        supervisor = self._server.supervisor
        yield GaugeMetricFamily(
            "statebridge_worker_restarts",
            "Workers that had to be replaced since the server started.",
            value=supervisor.restarts,
        )
        yield GaugeMetricFamily(
            "statebridge_worker_up",
            "Whether a worker process lives.",
            value=float(supervisor.pid is not None),
        )
        yield GaugeMetricFamily(
            "statebridge_event_streams", "Open event streams.", value=self._server.event_streams
        )
