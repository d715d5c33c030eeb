"""`statebridge serve`: open the sockets, run uvicorn, stop within ten seconds."""

from __future__ import annotations

import errno
import gc
import logging
import signal
import socket
import sys
from contextlib import ExitStack
from importlib.util import find_spec
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI

from statebridge.errors import EnvironmentFault, InputError, StatebridgeError
from statebridge_server.api.app import create_app
from statebridge_server.api.context import Server
from statebridge_server.logs import configure_logs, log
from statebridge_server.settings import Settings
from statebridge_server.store.keys import usable_key

CLOSE_SECONDS = 4
"""Time that open connections have to end when the server stops."""

BACKLOG = 2048
"""Connections that may wait to be accepted."""

Address = tuple[Any, ...]
"""An entry of `socket.getaddrinfo`."""

_USUAL = "give 127.0.0.1 for this machine alone, or 0.0.0.0 for all"

_log = logging.getLogger("statebridge.serve")


class _StoppingServer(uvicorn.Server):
    """Stops the workers and the event streams as soon as a signal arrives."""

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
    if len(settings.copies) > 1 and find_spec("ray") is None:
        raise EnvironmentFault(
            "devices: several need Ray, which is not installed; pip install 'statebridge[ray]', or "
            "list one device"
        )
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
        # Unlike the faster parser, this one bounds a head and refuses a second Host header.
        http="h11",
        ws="none",
    )
    # uvicorn sends itself the signal again once it has stopped. A stop that was asked for is no
    # failure, and a container's exit code should say so.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    log(_log, logging.INFO, "serving", host=settings.host, port=settings.port)
    _freeze_loaded_objects()
    _StoppingServer(config, server).run(sockets)


def _freeze_loaded_objects() -> None:
    # The modules stay loaded to the end. Without this, each full collection would visit all of
    # their objects again, which takes about a tenth of a second.
    gc.collect()
    gc.freeze()
    gc.collect()  # the number of objects left here decides when the next full collection is due


def addresses_of(host: str, port: int) -> list[Address]:
    """Return the addresses of a host.

    Raises:
        InputError: The host is unknown.
    """
    try:
        found = socket.getaddrinfo(
            host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (OSError, UnicodeError):
        raise InputError(f"host {host}: is no address of this machine; {_USUAL}") from None
    return list(dict.fromkeys(found))


def listening_sockets(host: str, port: int) -> list[socket.socket]:
    """Return a listening socket for each address of a host.

    Raises:
        InputError: The host is unknown, or none of its addresses is this machine's.
        EnvironmentFault: The address is in use, or this user may not listen there.
    """
    with ExitStack() as opened:
        sockets = []
        for family, kind, protocol, _, address in addresses_of(host, port):
            try:
                listener = opened.enter_context(socket.socket(family, kind, protocol))
                _listen(listener, address)
            except OSError as error:
                # A name may have addresses of a kind that this machine does not support.
                if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    continue
                raise EnvironmentFault(_refusal(error, host, port)) from None
            sockets.append(listener)
        if not sockets:
            raise InputError(f"host {host}: is no address of this machine; {_USUAL}")
        opened.pop_all()
        return sockets


def _listen(listener: socket.socket, address: tuple[object, ...]) -> None:
    if sys.platform == "win32":
        # There, SO_REUSEADDR would let two servers share a port.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
    else:
        # The address of a server that has just ended is free again.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if listener.family == socket.AF_INET6:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    listener.bind(address)
    listener.listen(BACKLOG)
    listener.setblocking(False)


def _refusal(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"port {port} of {host} is in use, perhaps by another `statebridge serve`; stop what "
            "listens there, or choose another port with --port"
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"this user may not listen on port {port} of {host}; choose one above 1023"
    return f"port {port} of {host} cannot be listened on: {error.strerror}"
