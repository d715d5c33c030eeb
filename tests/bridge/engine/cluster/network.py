"""A network of its own for each node of a cluster on this machine, whose cable can be pulled.

Linux, and the rights of root: network namespaces, joined by a bridge.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SUBNET = f"10.77.{os.getpid() % 250}"
"""Addresses of this process alone, as the names below: another test may run beside this one."""

HEAD = f"{SUBNET}.1"
"""Address of this machine on the bridge."""

BRIDGE = f"ray{os.getpid()}"
"""Name of the bridge, and the beginning of all others."""

_NET = 0x40000000
"""CLONE_NEWNET."""


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def may_make_networks() -> bool:
    """Whether this process can make network namespaces."""
    if os.name != "posix" or os.geteuid() != 0:
        return False
    made = subprocess.run(["ip", "netns", "add", f"{BRIDGE}-try"], capture_output=True, check=False)
    if made.returncode == 0:
        _ip("netns", "del", f"{BRIDGE}-try")
    return made.returncode == 0


class Network:
    """One machine on the bridge: a namespace, and a cable to it."""

    def __init__(self, number: int) -> None:
        self.name, self.cable, self.address = (
            f"{BRIDGE}-{number}",
            f"{BRIDGE}-h{number}",
            f"{SUBNET}.{number}",
        )
        _ip("netns", "add", self.name)
        _ip("link", "add", self.cable, "type", "veth", "peer", "name", "eth0", "netns", self.name)
        _ip("link", "set", self.cable, "master", BRIDGE, "up")
        _ip("-n", self.name, "addr", "add", f"{self.address}/24", "dev", "eth0")
        for link in ("eth0", "lo"):
            _ip("-n", self.name, "link", "set", link, "up")

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Let this thread, and the processes that it starts, be on that machine."""
        libc = ctypes.CDLL(None, use_errno=True)
        with Path("/proc/thread-self/ns/net").open() as own:
            with Path(f"/run/netns/{self.name}").open() as other:
                assert libc.setns(other.fileno(), _NET) == 0, os.strerror(ctypes.get_errno())
            try:
                yield
            finally:
                assert libc.setns(own.fileno(), _NET) == 0, os.strerror(ctypes.get_errno())

    def pull(self) -> None:
        """Pull the cable: packets are lost, and neither end gets word."""
        _ip("link", "set", self.cable, "down")

    def plug(self) -> None:
        """Put the cable back."""
        _ip("link", "set", self.cable, "up")


@contextmanager
def networks(count: int) -> Iterator[list[Network]]:
    """Give machines beside this one, which is `HEAD`."""
    made: list[Network] = []
    _ip("link", "add", BRIDGE, "type", "bridge")
    try:
        _ip("addr", "add", f"{HEAD}/24", "dev", BRIDGE)
        _ip("link", "set", BRIDGE, "up")
        for number in range(2, count + 2):
            made.append(Network(number))
        yield made
    finally:
        for network in made:
            _ip("netns", "del", network.name)  # its cable goes with it
        _ip("link", "del", BRIDGE)
