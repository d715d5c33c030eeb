"""Trouble with storing that passes by itself: a full disk, a database that cannot be reached."""

from __future__ import annotations

import errno

from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

DATABASE_TROUBLE = (OperationalError, InterfaceError, PoolTimeoutError)
"""What a database raises that is away, locked for too long, or has no room."""

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})


def no_room(error: BaseException | None) -> bool:
    """Whether an error, or what it was raised over, is that the disk or a quota is full."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            return True
        error = error.__cause__ or error.__context__
    return False


def passing_trouble(error: Exception) -> str | None:
    """Say what has to pass before the same work may succeed; None where the work is at fault."""
    if isinstance(error, DATABASE_TROUBLE):
        return "the database cannot be used at present"
    if no_room(error):
        return "there is no room on the disk"
    return None
