"""Addresses that only this machine reaches, for the servers that answer to it alone."""

from __future__ import annotations

import ipaddress
import re

_AUTHORITY = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::\d*)?|([A-Za-z0-9.-]+)(?::\d*)?")


def host_name(authority: str) -> str:
    """Return the name in `name`, `name:port`, `[address]` or `[address]:port`; else nothing."""
    match = _AUTHORITY.fullmatch(authority)
    return "" if match is None else match[1] or match[2]


def is_loopback(host: str) -> bool:
    """Whether a host name or address can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
