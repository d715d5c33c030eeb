"""The lanes of earlier jobs, as a job's run asks for them.

A job takes lanes of its owner's other jobs, and of jobs that were shared with everybody. Nobody
learns by it what others have computed in private, and nobody's private jobs have any part in
another's numbers.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import BinaryIO

from statebridge.records import RowResult
from statebridge.runs.directory import POSITIVE_CONTROL, ROWS, read_lane
from statebridge.runs.lane_store import FoundLane, KeyedLine, LaneKey
from statebridge_server.layout import run_path
from statebridge_server.logs import log
from statebridge_server.storage_trouble import DATABASE_TROUBLE
from statebridge_server.store.database import Database
from statebridge_server.store.lanes import StoredLane, record_lanes, visible_lanes
from statebridge_server.store.tables import Job

HALF = 16
"""Bytes of a SHA-256 that are kept."""

_log = logging.getLogger("statebridge.worker")


class EarlierLanes:
    """A `statebridge.runs.lane_store.LaneStore` over the server's jobs."""

    def __init__(self, database: Database, job: Job, data: Path = Path()) -> None:
        """Take the job that asks, and the data directory: the worker's working directory."""
        self._database, self._job, self._data = database, job, data

    def lookup(self, keys: Sequence[LaneKey]) -> Mapping[LaneKey, FoundLane]:
        """Return the lanes that are there and read back as they were committed."""
        whole = {key[:HALF]: key for key in keys}
        lanes = visible_lanes(
            self._database, self._job.owner, list(whole), except_job=self._job.number
        )
        found: dict[LaneKey, FoundLane] = {}
        damaged = 0
        for (job_id, control), of_file in groupby(lanes, lambda lane: (lane.job_id, lane.control)):
            wanted = [lane for lane in of_file if whole[lane.key] not in found]
            try:
                with self._rows(job_id, control=control).open("rb") as stream:
                    for lane in sorted(wanted, key=lambda lane: lane.offset):
                        row = _read(stream, lane, whole[lane.key])
                        if row is None:
                            damaged += 1
                        else:
                            found[whole[lane.key]] = FoundLane(row, job_id)
            except OSError:  # the job was deleted since it was looked up, or the disk fails
                damaged += len(wanted)
        if damaged:
            log(_log, logging.WARNING, "lanes not reused", job=self._job.id, lanes=damaged)
        return found

    def record(self, rows: Path, lines: Sequence[KeyedLine]) -> None:
        """Take note of lines that stand in this job's rows; without a database, of none."""
        control = rows.parent.name == POSITIVE_CONTROL
        lanes = [
            StoredLane(
                key=keyed.key[:HALF],
                job_id=self._job.id,
                control=control,
                offset=keyed.line.offset,
                length=keyed.line.length,
                check=_check(keyed.key, keyed.line.sha256),
            )
            for keyed in lines
        ]
        try:
            record_lanes(self._database, self._job.number, lanes)
        except DATABASE_TROUBLE:
            # They are committed all the same; they will be computed again where they are asked for.
            log(_log, logging.WARNING, "lanes not recorded", job=self._job.id, lanes=len(lanes))

    def _rows(self, job_id: str, *, control: bool) -> Path:
        folder = self._data / run_path(job_id)
        return (folder / POSITIVE_CONTROL if control else folder) / ROWS


def _check(key: LaneKey, line_sha256: bytes) -> bytes:
    # The key too: two of them may agree in the half that is kept.
    return hashlib.sha256(key + line_sha256).digest()[:HALF]


def _read(stream: BinaryIO, lane: StoredLane, key: LaneKey) -> RowResult | None:
    """Return a lane; None where it is not the one that was committed under the key."""
    stream.seek(lane.offset)
    line = stream.read(lane.length)
    if _check(key, hashlib.sha256(line).digest()) != lane.check:
        return None
    _, _, row = read_lane(line)
    return row
