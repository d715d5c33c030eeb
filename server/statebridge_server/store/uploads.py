"""Datasets and corpora in the store: one file for each content, held by the keys that uploaded it.

Each kind of upload is a subclass of `Holder`, the table with each key's description of a file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import select
from sqlalchemy.orm import Session

from statebridge.results.service_records import ENDED
from statebridge_server.store.database import Database
from statebridge_server.store.jobs import WrongStateError
from statebridge_server.store.keys import Principal
from statebridge_server.store.tables import Holder, Job, JobInput

H = TypeVar("H", bound=Holder)


@dataclass(frozen=True, slots=True)
class Held(Generic[H]):
    """An upload as one key holds it."""

    bytes: int
    holder: H


def hold(database: Database, upload: Held[H]) -> bool:
    """Record an upload whose file is in place; return whether it is new to the key."""
    holder = upload.holder
    kind = type(holder)
    with database.write() as session:
        if session.get(kind.file, holder.sha256) is None:
            session.add(
                kind.file(sha256=holder.sha256, bytes=upload.bytes, created_at=holder.created_at)
            )
            session.flush()
        new = session.get(kind, _key(holder.sha256, holder.owner)) is None
        session.merge(holder)
        return new


def held(database: Database, kind: type[H], principal: Principal) -> list[Held[H]]:
    """Return the uploads of a kind that the principal's key holds, newest first."""
    query = (
        select(kind.file.bytes, kind)
        .join(kind.file, kind.sha256 == kind.file.sha256)
        .where(kind.owner == principal.key_id)
        .order_by(kind.created_at.desc(), kind.sha256)
    )
    with database.read() as session:
        return [Held(size, holder) for size, holder in session.execute(query)]


def held_upload(
    database: Database, kind: type[H], principal: Principal, sha256: str
) -> Held[H] | None:
    """Return an upload with this hash that the principal's key holds, or None."""
    with database.read() as session:
        holder = session.get(kind, _key(sha256, principal.key_id))
        file = session.get(kind.file, sha256)
    return None if holder is None or file is None else Held(file.bytes, holder)


def let_go(database: Database, kind: type[H], owner: str, sha256: str) -> bool:
    """Remove an upload from a key; return whether no key holds it, so that its file can be deleted.

    Raises:
        WrongStateError: A job that has not ended reads it.
    """
    with database.write() as session:
        holder = session.get(kind, _key(sha256, owner), with_for_update=True)
        refuse_while_used(session, kind.kind, sha256, owner)
        if holder is not None:
            session.delete(holder)
            session.flush()
        others = session.scalar(select(kind.owner).where(kind.sha256 == sha256).limit(1))
        used = session.scalar(_unended(kind.kind, sha256).limit(1))
        if others is not None or used is not None:
            return False
        file = session.get(kind.file, sha256)
        if file is not None:
            session.delete(file)
        return True


def refuse_while_used(session: Session, kind: str, item: str, owner: str | None = None) -> None:
    """Raise WrongStateError if a job (of this owner) that has not ended reads the item."""
    query = _unended(kind, item)
    if owner is not None:
        query = query.where(Job.owner == owner)
    user = session.scalar(query.limit(1))
    if user is not None:
        raise WrongStateError(f"experiment {user} reads it; cancel that, or wait for its end")


def _key(sha256: str, owner: str) -> dict[str, str]:
    return {"sha256": sha256, "owner": owner}


def _unended(kind: str, item: str) -> Any:
    return (
        select(Job.id)
        .join(JobInput, JobInput.job_id == Job.id)
        .where(JobInput.kind == kind, JobInput.item == item, Job.state.not_in(ENDED))
    )
