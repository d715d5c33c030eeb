"""Committed lanes by key, so that a job need not compute what another job has computed."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Mapping, Sequence

from sqlalchemy import delete, insert, or_, select

from statebridge.runs.stores import FoundLane, LaneKey
from statebridge_server.logs import log
from statebridge_server.store.database import DATABASE_TROUBLE, Database
from statebridge_server.store.tables import Job, Lane

_log = logging.getLogger("statebridge.worker")


class EarlierLanes:
    """A `statebridge.runs.stores.LaneStore` of one job.

    A job takes lanes of its owner's other jobs and of shared jobs. So nobody learns what others
    computed in private, and no private job has a part in the numbers of another key.
    """

    def __init__(self, database: Database, job: Job) -> None:
        self._database, self._job = database, job

    def lookup(self, keys: Sequence[LaneKey]) -> Mapping[LaneKey, FoundLane]:
        """Return the lanes that are stored under these keys: of the oldest job that has each."""
        query = (
            select(Lane.key, Lane.line, Job.id)
            .join(Job, Job.number == Lane.job_number)
            .where(
                Lane.key.in_(keys),
                Lane.job_number != self._job.number,
                or_(Job.owner == self._job.owner, Job.shared),
            )
            .order_by(Lane.job_number)
        )
        found: dict[LaneKey, FoundLane] = {}
        damaged = 0
        with self._database.read() as session:
            for key, line, job_id in session.execute(query):
                try:
                    found.setdefault(key, FoundLane(zlib.decompress(line), job_id))
                except zlib.error:
                    damaged += 1
        if damaged:
            log(_log, logging.WARNING, "lanes not reused", job=self._job.id, lanes=damaged)
        return found

    def record(self, lanes: Mapping[LaneKey, bytes]) -> None:
        """Store committed lines by key; without a database they are computed again one day."""
        number = self._job.number
        rows = [
            {"key": key, "job_number": number, "line": zlib.compress(line)}
            for key, line in lanes.items()
        ]
        try:
            with self._database.write() as session:
                # A group may have been recorded, lost with the end of its file, and run again.
                session.execute(
                    delete(Lane).where(Lane.job_number == number, Lane.key.in_(list(lanes)))
                )
                session.execute(insert(Lane), rows)
        except DATABASE_TROUBLE:
            log(_log, logging.WARNING, "lanes not recorded", job=self._job.id, lanes=len(rows))
