"""Bearer keys: made, checked, listed, revoked.

A token is `sb_<id>_<secret>` with a secret of 256 random bits. Only its SHA-256 is stored. A
slow hash (bcrypt, Argon2) exists to make guessing a human's password dear; nobody guesses
256 random bits, so it would only make every request slow.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from dataclasses import dataclass
from typing import Literal, get_args

from sqlalchemy import select

from statebridge.errors import InputError, nearest
from statebridge_server.store.database import Database
from statebridge_server.store.tables import Key

Role = Literal["read", "submit", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)
"""Each role includes those before it."""

_TOKEN = re.compile(r"sb_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
_NOBODY = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True, slots=True)
class Principal:
    """The key that sent a request, and its role."""

    key_id: str
    role: Role

    def may(self, role: Role) -> bool:
        """Whether the key's role includes `role`."""
        return ROLES.index(self.role) >= ROLES.index(role)


LOCAL = Principal("local", "admin")
"""Principal instead of a key while none exists: a user of this machine."""


def create_key(database: Database, name: str, role: str) -> tuple[str, Key]:
    """Create a key; return its token, which is not stored, and its record.

    Raises:
        InputError: An unknown role, or a name that is empty or too long.
    """
    if role not in ROLES:
        raise InputError(f"role {role!r}: unknown; {nearest(role, ROLES)}")
    if not name.strip() or len(name) > 200 or not name.isprintable():
        raise InputError("name: give 1 to 200 printable characters that say whose key it is")
    key_id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    token = f"sb_{key_id}_{secret}"
    key = Key(id=key_id, name=name, role=role, token_sha256=_digest(token), created_at=time.time())
    with database.write() as session:
        session.add(key)
    return token, key


def claimed_id(token: str) -> str | None:
    """Return the id of the key that a token says it is of; None for what is no token."""
    match = _TOKEN.fullmatch(token)
    return None if match is None else match[1]


def find_key(database: Database, key_id: str) -> Key | None:
    """Return a key's record, also of a revoked one; None where there is none."""
    with database.read() as session:
        return session.get(Key, key_id)


def authenticate(key: Key | None, token: str) -> Principal | None:
    """Return whose token it is; None for a wrong, unknown or revoked one.

    Args:
        key: The record of the key that the token says it is of.
        token: As it was sent.
    """
    stored = _NOBODY if key is None else key.token_sha256
    # Constant time, and the same work whether or not the id exists.
    same = hmac.compare_digest(_digest(token), stored)
    if key is None or not same or key.revoked_at is not None:
        return None
    role = next(role for role in ROLES if role == key.role)
    return Principal(key.id, role)


def any_key(database: Database) -> bool:
    """Whether a key was ever made; a revoked one counts, so revoking never opens a server."""
    with database.read() as session:
        return session.scalar(select(Key.id).limit(1)) is not None


def usable_key(database: Database) -> bool:
    """Whether a key exists that is not revoked."""
    with database.read() as session:
        return session.scalar(select(Key.id).where(Key.revoked_at.is_(None)).limit(1)) is not None


def list_keys(database: Database) -> list[Key]:
    """Return all keys, oldest first."""
    with database.read() as session:
        return list(session.scalars(select(Key).order_by(Key.created_at, Key.id)))


def revoke_key(database: Database, key_id: str) -> Key:
    """Revoke a key; it stays listed.

    Raises:
        InputError: No such key, or one that was revoked before.
    """
    with database.write() as session:
        key = session.get(Key, key_id)
        if key is None:
            raise InputError(f"key {key_id!r}: there is none; `statebridge keys list` shows all")
        if key.revoked_at is not None:
            raise InputError(f"key {key_id!r}: was revoked before")
        key.revoked_at = time.time()
        return key


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
