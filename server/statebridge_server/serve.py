"""Serving: refuses an open door, listens, and stops within ten seconds."""

from __future__ import annotations

import gc
import logging
import signal
import sys
from types import FrameType

import uvicorn
from fastapi import FastAPI

from statebridge.errors import InputError, StatebridgeError
from statebridge_server.api.app import create_app
from statebridge_server.api.context import Server
from statebridge_server.api.http_protocol import BoundedProtocol
from statebridge_server.listening import addresses_of, listening_sockets
from statebridge_server.logs import configure_logs, log
from statebridge_server.settings import Settings
from statebridge_server.store.keys import usable_key

CLOSE_SECONDS = 4
"""That open connections get to end when the server stops."""

_log = logging.getLogger("statebridge.serve")


class _Uvicorn(uvicorn.Server):
    """Tells the worker and the event streams at once when a signal comes."""

    def __init__(self, config: uvicorn.Config, server: Server) -> None:
        super().__init__(config)
        self._statebridge = server

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._statebridge.stopping.set()
        self._statebridge.supervisor.request_stop()
        super().handle_exit(sig, frame)


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; a SIGTERM ends the process with exit code 0.

    Raises:
        InputError: The address can be reached from other machines and there is no key, or it is
            not this machine's.
        EnvironmentFault: The data directory or the database cannot be used, or the address is
            in use.
    """
    configure_logs(settings)
    app: FastAPI = create_app(settings)
    server: Server = app.state.server
    try:
        addresses_of(settings.host, settings.port)  # a mistyped host needs no key
        if not settings.loopback and not usable_key(server.database):
            raise InputError(
                f"host {settings.host}: other machines reach it and there is no key; make one with "
                "`statebridge keys create --name NAME --role admin`, or listen on 127.0.0.1"
            )
        sockets = listening_sockets(settings.host, settings.port)
    except StatebridgeError:
        server.database.close()
        raise
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=CLOSE_SECONDS,
        http=BoundedProtocol,
        loop="uvloop",
        ws="none",
    )
    # uvicorn sends itself the signal again once it has stopped. A stop that was asked for is no
    # failure, and a container's exit code should say so.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    log(_log, logging.INFO, "serving", host=settings.host, port=settings.port)
    _set_aside_for_good()
    _Uvicorn(config, server).run(sockets)


def _set_aside_for_good() -> None:
    # What was loaded stays to the end. Each full collection would look at all of it again, for
    # about a tenth of a second in which nobody is answered.
    gc.collect()
    gc.freeze()
    gc.collect()  # the next full collection is due by the number of objects that this one leaves
