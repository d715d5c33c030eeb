"""The sockets that the server listens on, opened before anything answers there."""

from __future__ import annotations

import errno
import socket
from contextlib import ExitStack
from typing import Any

from statebridge.errors import EnvironmentFault, InputError

BACKLOG = 2048
"""Connections that may wait to be taken up."""


Address = tuple[Any, ...]
"""As `socket.getaddrinfo` gives it."""


def addresses_of(host: str, port: int) -> list[Address]:
    """Return what `host` stands for.

    Raises:
        InputError: Nothing.
    """
    try:
        found = socket.getaddrinfo(
            host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (OSError, UnicodeError):
        raise InputError(f"host {host}: is no address of this machine; {_USUAL}") from None
    return list(dict.fromkeys(found))


def listening_sockets(host: str, port: int) -> list[socket.socket]:
    """Return a socket that listens for each address that `host` stands for.

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
                # A name may stand for addresses of a kind that this machine does not have.
                if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    continue
                raise EnvironmentFault(_refusal(error, host, port)) from None
            sockets.append(listener)
        if not sockets:
            raise InputError(f"host {host}: is no address of this machine; {_USUAL}")
        opened.pop_all()
        return sockets


_USUAL = "give 127.0.0.1 for this machine alone, or 0.0.0.0 for all"


def _listen(listener: socket.socket, address: tuple[object, ...]) -> None:
    # An address that an earlier server has just left is free; one that is listened on is not.
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
