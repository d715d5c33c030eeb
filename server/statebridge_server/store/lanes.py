"""Committed lanes by key: where each stands in which job's rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import delete, insert, or_, select

from statebridge_server.store.database import Database
from statebridge_server.store.tables import Job, Lane

KEYS_TOGETHER = 500
"""In one statement; some databases take no more than 999 values."""


@dataclass(frozen=True, slots=True)
class StoredLane:
    """Where a lane stands. Key and check are 16 bytes each."""

    key: bytes
    job_id: str
    control: bool
    offset: int
    length: int
    check: bytes


def visible_lanes(
    database: Database, owner: str, keys: Sequence[bytes], *, except_job: int
) -> list[StoredLane]:
    """Return lanes of the owner's other jobs and of shared ones, oldest job first, as they stand in
    its files. One key may have several lanes, of several jobs.
    """
    found: list[tuple[int, StoredLane]] = []
    with database.read() as session:
        for some in _portions(keys):
            query = (
                select(Lane, Job.id)
                .join(Job, Job.number == Lane.job_number)
                .where(
                    Lane.key.in_(some),
                    Lane.job_number != except_job,
                    or_(Job.owner == owner, Job.shared),
                )
            )
            found += [
                (
                    lane.job_number,
                    StoredLane(
                        lane.key, job_id, lane.control, lane.offset, lane.length, lane.check
                    ),
                )
                for lane, job_id in session.execute(query)
            ]
    return [lane for _, lane in sorted(found, key=_place)]


def _place(found: tuple[int, StoredLane]) -> tuple[int, bool, int]:
    number, lane = found
    return number, lane.control, lane.offset


def record_lanes(database: Database, job_number: int, lanes: Iterable[StoredLane]) -> None:
    """Record where a job's lanes stand, in the place of what was recorded of the same keys."""
    by_key = {lane.key: lane for lane in lanes}
    rows = [
        {
            "key": lane.key,
            "job_number": job_number,
            "control": lane.control,
            "offset": lane.offset,
            "length": lane.length,
            "check": lane.check,
        }
        for lane in by_key.values()
    ]
    if not rows:
        return
    with database.write() as session:
        # Of a group that was recorded, lost with the end of a file, and committed again.
        for some in _portions(list(by_key)):
            session.execute(delete(Lane).where(Lane.job_number == job_number, Lane.key.in_(some)))
        session.execute(insert(Lane), rows)


def _portions(keys: Sequence[bytes]) -> list[Sequence[bytes]]:
    return [keys[start : start + KEYS_TOGETHER] for start in range(0, len(keys), KEYS_TOGETHER)]
