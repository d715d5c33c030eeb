"""One run of a job: its experiment as accepted, its progress, and its stop between two groups."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import ValidationError

from statebridge.errors import ExperimentError, ResultError
from statebridge.experiment.experiment import Execution, Experiment
from statebridge.runs.same_run import OtherRunError
from statebridge_server.store import queue
from statebridge_server.store.database import Database
from statebridge_server.store.tables import Job

LANE_STAGES = frozenset({"run", "positive_control", "taught_pair"})
"""Stages that count lanes: the experiment itself, and each of its controls."""

_WHERE = ("executor", "workers", "worker_gpus", "device", "sender_device")

NOTE_SECONDS = 0.2
"""Between two progress events of one stage; a burst of tiny groups is one event."""


class CancelledError(Exception):
    """The job's owner cancelled it."""


class StoppedError(Exception):
    """The worker was asked to stop."""


class JobProgress:
    """Progress callback of a run; it also stops the run between two groups."""

    def __init__(self, database: Database, job_id: str, stop: threading.Event) -> None:
        self._database = database
        self._job_id = job_id
        self._stop = stop
        self._stage = ""
        self._noted = 0.0
        self._began = 0.0
        self._first = self._last = 0

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Record the progress of a stage, in lanes.

        Raises:
            CancelledError: The job was cancelled.
            StoppedError: The worker was asked to stop.
        """
        now = time.monotonic()
        if stage != self._stage:
            self._stage, self._began, self._noted = stage, now, 0.0
            self._first = self._last = done
        # The first group is recorded at once, to count as progress if the worker dies after it.
        begins = self._last == self._first
        self._last = done
        if self._stop.is_set() or begins or done == total or now - self._noted >= NOTE_SECONDS:
            self._noted = now
            speed = self._speed(stage, done, total, now - self._began)
            committed = stage in LANE_STAGES and done > self._first
            if queue.note_progress(
                self._database, self._job_id, stage, done, total, speed, committed=committed
            ):
                raise CancelledError
        # If this was the last stage the job is done; a following stage calls again at once.
        if self._stop.is_set() and not (stage in LANE_STAGES and done == total):
            raise StoppedError

    def _speed(self, stage: str, done: int, total: int, seconds: float) -> dict[str, float]:
        fresh = done - self._first
        if stage not in LANE_STAGES or fresh <= 0 or seconds <= 0:
            return {}
        rate = fresh / seconds
        return {"rows_per_second": round(rate, 3), "seconds_left": round((total - done) / rate, 1)}


def stored_experiment(job: Job) -> Experiment:
    """Return the experiment of a job as it was accepted.

    Raises:
        ExperimentError: An earlier version accepted what this one does not.
    """
    try:
        return Experiment.model_validate(job.experiment)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "experiment"
        raise ExperimentError(
            f"{field}: accepted by another version of this server and refused by this one "
            f"({first['msg']}); submit the experiment again as this version reads it"
        ) from None


def spread(experiment: Experiment, placement: Execution) -> Experiment:
    """Return an experiment with its groups, and the maps that are trained, on several devices."""
    # Not a copy: an experiment remembers the conditions that it has resolved.
    changes = {"execution": placed(experiment.execution, placement)}
    return Experiment.model_validate(experiment.model_dump() | changes)


def placed(execution: Execution, placement: Execution) -> Execution:
    """Return where an experiment runs: a side without a device map is on its one device."""
    where = placement.model_dump(include=set(_WHERE))
    sender_map, receiver_map = execution.device_maps
    if receiver_map is not None:
        where["device"] = "auto"
    if sender_map is not None:
        where["sender_device"] = None
    elif receiver_map is not None:
        where["sender_device"] = placement.sender_device or placement.device
    return execution.model_copy(update=where)


@contextmanager
def carried_on() -> Iterator[None]:
    """Turn the error of a run that began under other conditions into advice for its owner.

    Raises:
        ResultError: In place of `OtherRunError`, whose message is for a command line.
    """
    try:
        yield
    except OtherRunError as error:
        raise ResultError(
            f"this experiment was begun with another {error.what}: the server, its libraries or "
            "its machine changed before it had ended; submit it again, which runs it from the "
            "start"
        ) from None
