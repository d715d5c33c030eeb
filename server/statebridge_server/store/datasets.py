"""Datasets in the store: one file for each content, held by every key that uploaded it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from statebridge_server.store.database import Database
from statebridge_server.store.jobs import ENDED, WrongStateError
from statebridge_server.store.keys import Principal
from statebridge_server.store.tables import Dataset, DatasetHolder, Job, JobInput


@dataclass(frozen=True, slots=True)
class HeldDataset:
    """A dataset as one key holds it."""

    sha256: str
    bytes: int
    rows: int
    longest: int
    fields: dict[str, Any]
    created_at: float


def hold(database: Database, owner: str, dataset: HeldDataset) -> bool:
    """Record a dataset whose file is in place; return whether the key did not hold it before."""
    with database.write() as session:
        if session.get(Dataset, dataset.sha256) is None:
            session.add(
                Dataset(sha256=dataset.sha256, bytes=dataset.bytes, created_at=dataset.created_at)
            )
            session.flush()
        new = session.get(DatasetHolder, (dataset.sha256, owner)) is None
        session.merge(
            DatasetHolder(
                sha256=dataset.sha256,
                owner=owner,
                fields=dataset.fields,
                rows=dataset.rows,
                longest=dataset.longest,
                created_at=dataset.created_at,
            )
        )
        return new


def held(database: Database, principal: Principal) -> list[HeldDataset]:
    """Return the datasets that the principal's key holds, newest first."""
    query = (
        select(Dataset, DatasetHolder)
        .join(DatasetHolder, DatasetHolder.sha256 == Dataset.sha256)
        .where(DatasetHolder.owner == principal.key_id)
        .order_by(DatasetHolder.created_at.desc(), Dataset.sha256)
    )
    with database.read() as session:
        return [_held(dataset, holder) for dataset, holder in session.execute(query)]


def held_dataset(database: Database, principal: Principal, sha256: str) -> HeldDataset | None:
    """Return a dataset that the principal's key holds; None where it holds none of this hash."""
    with database.read() as session:
        holder = session.get(DatasetHolder, (sha256, principal.key_id))
        dataset = session.get(Dataset, sha256)
    return None if holder is None or dataset is None else _held(dataset, holder)


def let_go(database: Database, owner: str, sha256: str) -> bool:
    """Let go of a dataset; return whether nobody holds it any more, so that its file may go.

    Raises:
        WrongStateError: A job that has not ended reads it.
    """
    with database.write() as session:
        holder = session.get(DatasetHolder, (sha256, owner), with_for_update=True)
        refuse_while_used(session, "dataset", sha256, owner)
        if holder is not None:
            session.delete(holder)
            session.flush()
        others = session.scalar(
            select(DatasetHolder.owner).where(DatasetHolder.sha256 == sha256).limit(1)
        )
        used = session.scalar(_unended("dataset", sha256).limit(1))
        if others is not None or used is not None:
            return False
        dataset = session.get(Dataset, sha256)
        if dataset is not None:
            session.delete(dataset)
        return True


def refuse_while_used(session: Session, kind: str, item: str, owner: str | None = None) -> None:
    """Raise WrongStateError if a job (of this owner) that has not ended reads the item."""
    query = _unended(kind, item)
    if owner is not None:
        query = query.where(Job.owner == owner)
    user = session.scalar(query.limit(1))
    if user is not None:
        raise WrongStateError(f"experiment {user} reads it; cancel that, or wait for its end")


def _unended(kind: str, item: str) -> Any:
    return (
        select(Job.id)
        .join(JobInput, JobInput.job_id == Job.id)
        .where(JobInput.kind == kind, JobInput.item == item, Job.state.not_in(ENDED))
    )


def _held(dataset: Dataset, holder: DatasetHolder) -> HeldDataset:
    return HeldDataset(
        sha256=dataset.sha256,
        bytes=dataset.bytes,
        rows=holder.rows,
        longest=holder.longest,
        fields=holder.fields,
        created_at=holder.created_at,
    )
