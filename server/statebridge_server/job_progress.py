"""What a job's worker records while it runs, and where the run stops between two groups."""

from __future__ import annotations

import threading
import time

from statebridge_server.store import turns
from statebridge_server.store.database import Database

ROW_STAGES = frozenset({"run", "positive_control", "taught_pair"})
"""Stages that count rows: of the experiment itself, and of each of its controls."""

NOTE_SECONDS = 0.2
"""Between two progress events of one stage; a burst of tiny groups is one event."""


class CancelledError(Exception):
    """The job's owner cancelled it."""


class StoppedError(Exception):
    """The worker was told to stop."""


class JobProgress:
    """The run's progress callback: records, and stops the run between groups."""

    def __init__(self, database: Database, job_id: str, stop: threading.Event) -> None:
        self._database = database
        self._job_id = job_id
        self._stop = stop
        self._stage = ""
        self._noted = 0.0
        self._began = 0.0
        self._first = self._last = 0

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Take note of how far a stage is.

        Raises:
            CancelledError: The job was cancelled.
            StoppedError: The worker was told to stop.
        """
        now = time.monotonic()
        if stage != self._stage:
            self._stage, self._began, self._noted = stage, now, 0.0
            self._first = self._last = done
        # The first group is noted at once: a worker that dies after it did get on.
        begins = self._last == self._first
        self._last = done
        if self._stop.is_set() or begins or done == total or now - self._noted >= NOTE_SECONDS:
            self._noted = now
            speed = self._speed(stage, done, total, now - self._began)
            committed = stage in ROW_STAGES and done > self._first
            if turns.note_progress(
                self._database, self._job_id, stage, done, total, speed, committed=committed
            ):
                raise CancelledError
        # What has just ended may have been the last; if something follows, it says so at once.
        if self._stop.is_set() and not (stage in ROW_STAGES and done == total):
            raise StoppedError

    def _speed(self, stage: str, done: int, total: int, seconds: float) -> dict[str, float]:
        fresh = done - self._first
        if stage not in ROW_STAGES or fresh <= 0 or seconds <= 0:
            return {}
        rate = fresh / seconds
        return {"rows_per_second": round(rate, 3), "seconds_left": round((total - done) / rate, 1)}
