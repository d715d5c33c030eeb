"""The application: its routes, handlers and lifespan, in which the workers run.

`python -m statebridge_server.api.app > server/openapi.json` writes its OpenAPI description.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from anyio import to_thread
from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from starlette.types import Lifespan

from statebridge_server.api import health
from statebridge_server.api.context import Server
from statebridge_server.api.problems import MEDIA_TYPE, ProblemDetails, install_problem_handlers
from statebridge_server.api.requests import RequestContext, RequestMetrics
from statebridge_server.api.v1 import (
    doctor,
    events,
    experiments,
    inputs,
    pairs,
    results,
    rows,
    scores,
    translators,
)
from statebridge_server.layout import clear_incoming, make_layout
from statebridge_server.pages import experiments as experiment_pages
from statebridge_server.pages import inputs as input_pages
from statebridge_server.pages import session, submit
from statebridge_server.pages.frame import problem_page
from statebridge_server.settings import Settings
from statebridge_server.store.database import Database
from statebridge_server.supervisor import Supervisor

DESCRIPTION = """Experiments on activation channels between language models, carried out here.

Every error is a problem-details object (RFC 9457). Keys go into `Authorization: Bearer`."""


def create_app(settings: Settings) -> FastAPI:
    """Return the application; its worker starts and ends with its lifespan.

    Raises:
        StatebridgeError: The data directory or the database cannot be used.
    """
    make_layout(settings.data)
    server = Server(settings, Database(settings.url), Supervisor(settings))
    registry = CollectorRegistry()
    registry.register(health.ServerCollector(server))

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        clear_incoming(settings.data)
        server.supervisor.start()
        yield
        server.stopping.set()
        await to_thread.run_sync(server.supervisor.join)
        server.database.close()

    app = bare_app(lifespan)
    app.state.server = server
    app.state.registry = registry
    app.add_middleware(RequestContext, metrics=RequestMetrics(registry))
    return app


def bare_app(lifespan: Lifespan[FastAPI] | None = None) -> FastAPI:
    """Return the routes without a server, for the OpenAPI description."""
    problem = {"content": {MEDIA_TYPE: {"schema": ProblemDetails.model_json_schema()}}}
    app = FastAPI(
        title="Statebridge",
        version=version("statebridge"),
        description=DESCRIPTION,
        lifespan=lifespan,
        responses={
            code: {**problem, "description": text}
            for code, text in (("4XX", "Refused."), ("5XX", "The server's fault."))
        },
    )
    install_problem_handlers(app, problem_page)
    for router in (
        *(
            experiments.router,
            doctor.router,
            events.router,
            rows.router,
            results.router,
            translators.router,
        ),
        *(inputs.datasets, inputs.corpora, pairs.router, scores.router, health.router),
    ):
        app.include_router(router)
    for pages in (session.router, experiment_pages.router, submit.router, input_pages.router):
        app.include_router(pages, include_in_schema=False)
    return app


def openapi_text() -> str:
    """Return the OpenAPI description as the committed file holds it."""
    return json.dumps(bare_app().openapi(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    print(openapi_text(), end="")
