"""The loop of the worker: load the models, take a job, run it, record how it ended.

On one device the worker runs one job after another. On several it runs as many jobs together, each
in a thread that gives its groups to actors which all of them share; one thread at a time is at work
in this process, where the models have one owner. Of each key one job may run besides, so that no
key waits for the end of another one's.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import SQLAlchemyError

from statebridge.errors import StatebridgeError
from statebridge_server.layout import run_path
from statebridge_server.logs import log
from statebridge_server.settings import Settings
from statebridge_server.store import queue
from statebridge_server.store.database import DATABASE_TROUBLE, Database, passing_trouble
from statebridge_server.store.lanes import EarlierLanes
from statebridge_server.store.tables import Job
from statebridge_server.worker.fits import EarlierFits, keep_fitted_translators
from statebridge_server.worker.job_run import (
    CancelledError,
    JobProgress,
    StoppedError,
    carried_on,
    spread,
    stored_experiment,
)

if TYPE_CHECKING:  # loads torch
    from statebridge.engine.cluster.pool import Pool

GRACE_SECONDS = 7.0
"""Longest time from the request to stop to the end of the process."""

MORE_KEYS = 8
"""Jobs that run beside one for each device, each of a key that has none running."""

BEAT_SECONDS = 2.0
IDLE_SECONDS = 0.2
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds to wait while nothing can be stored; doubled each time."""

_log = logging.getLogger("statebridge.worker")


class Worker:
    """Loads models, takes jobs and runs them."""

    def __init__(self, settings: Settings, database: Database) -> None:
        from statebridge_server.worker.loaded_models import (  # noqa: PLC0415 - loads torch
            LoadedModels,
        )

        self._settings = settings
        self._database = database
        self._models = LoadedModels(settings)
        self._pool: Pool | None = None
        self._threads: dict[threading.Thread, Job] = {}
        self._stop = threading.Event()
        self._status = ("starting", "")
        self._pause = FIRST_PAUSE
        self._pairs: dict[str, Any] = {}

    def request_stop(self) -> None:
        """Stop after the present group, and after `GRACE_SECONDS` at the latest."""
        if self._stop.is_set():
            return
        self._stop.set()
        timer = threading.Timer(GRACE_SECONDS, self._give_up)
        timer.daemon = True
        timer.start()

    def _give_up(self) -> None:
        # The present group is lost and will be run again; committed groups stay.
        try:
            with contextlib.suppress(SQLAlchemyError):
                queue.put_back(self._database)
        finally:
            os._exit(0)

    def work(self) -> None:
        """Take jobs until `request_stop` is called."""
        threading.Thread(target=self._beat_on, name="heartbeat", daemon=True).start()
        with contextlib.ExitStack() as held:
            if len(self._settings.copies) > 1:
                self._set("starting", "actors")
                stops = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}
                self._pool = held.enter_context(self._held_pool())
                self._pool.turn.release()
                for each, handler in stops.items():  # Ray's would end the process at once
                    signal.signal(each, handler)
            self._work()

    def _work(self) -> None:
        if self._settings.preload:
            for name in self._settings.pairs:
                if self._stop.is_set():
                    return
                self._load(name)
        self._set("ready")
        nothing_since: int | None = None
        while not self._stop.is_set():
            version = self._database.version()
            if version is not None and version == nothing_since:  # nothing was committed since
                self._stop.wait(IDLE_SECONDS)
                continue
            try:
                job = self._next_job()
            except DATABASE_TROUBLE as error:
                self._wait_out(error)
                continue
            nothing_since = None if self._threads else version
            if job is None:
                self._stop.wait(IDLE_SECONDS)
            elif self._pool is None:
                self._set("running", job.id)
                self._run(job)
                self._set("ready")
            else:
                thread = threading.Thread(target=self._share, args=(job, self._pool), daemon=True)
                self._threads[thread] = job
                self._set("running", " ".join(each.id for each in self._threads.values()))
                thread.start()
        for thread in self._threads:
            thread.join()

    def _next_job(self) -> Job | None:
        running = len(self._threads)
        self._threads = {t: job for t, job in self._threads.items() if t.is_alive()}
        if running and not self._threads:
            self._set("ready")
        devices, busy = len(self._settings.copies), [job.owner for job in self._threads.values()]
        if len(busy) >= devices + MORE_KEYS:
            return None
        return queue.take_next(self._database, busy if len(busy) >= devices else ())

    def _share(self, job: Job, pool: Pool) -> None:
        """Run a job beside others; its key shares the actors with the other keys that run any."""
        from statebridge.engine.cluster.pool import SHARE  # noqa: PLC0415 - loads torch

        SHARE.set(job.owner)
        with pool.turn:
            self._run(job)

    def _held_pool(self) -> AbstractContextManager[Pool]:
        from statebridge.engine.cluster.pool import held_pool  # noqa: PLC0415 - loads torch

        return held_pool(self._settings.placement)

    def _load(self, name: str) -> None:
        self._set("loading", name)
        try:
            self._models.preload(name)
        except Exception as error:
            # A pair that cannot be loaded leaves the other pairs usable.
            self._pairs[name] = {"error": _reason(error)}
            log(
                _log,
                logging.ERROR,
                "pair cannot be loaded",
                pair=name,
                error=_reason(error),
            )
        else:
            self._pairs[name] = self._models.describe(name)
            log(_log, logging.INFO, "pair loaded", pair=name)

    def _run(self, job: Job) -> None:
        log(_log, logging.INFO, "job started", job=job.id, pair=job.pair, done=job.lanes_done)
        began = time.monotonic()
        trouble: Exception | None = None
        try:
            self._carry_out(job)
        except CancelledError:
            self._record(lambda: queue.end(self._database, job.id, "cancelled"))
        except StoppedError:
            self._record(lambda: queue.put_back(self._database, job.id))
        except Exception as error:
            if passing_trouble(error) is not None:
                # It continues after its last committed group once data can be stored again.
                trouble = error
                self._record(lambda: queue.put_back(self._database, job.id))
            else:
                self._fail(job, error)
        else:
            self._record(lambda: queue.end(self._database, job.id, "done"))
        seconds = round(time.monotonic() - began, 3)
        log(_log, logging.INFO, "job left", job=job.id, seconds=seconds)
        if trouble is None:
            self._pause = FIRST_PAUSE
        else:
            self._wait_out(trouble)

    def _fail(self, job: Job, error: Exception) -> None:
        # A traceback may quote text of the data; for our own errors it adds nothing.
        log(_log, logging.ERROR, "job failed", job=job.id, kind=type(error).__name__)
        if not isinstance(error, StatebridgeError):
            _log.debug("traceback of %s", job.id, exc_info=error)
        reason = _reason(error)
        if job.pair in self._settings.pairs:
            reason = self._models.public_message(job.pair, reason)
        self._record(lambda: queue.end(self._database, job.id, "failed", reason))
        gc.collect()

    def _record(self, write: Callable[[], None]) -> None:
        """Write to the store; try again until that works or the worker stops."""
        while True:
            try:
                write()
            except DATABASE_TROUBLE as error:
                if self._stop.is_set():
                    return  # the next worker finds the job running and continues it
                self._wait_out(error)
            else:
                return

    def _wait_out(self, error: Exception) -> None:
        what = passing_trouble(error) or "something cannot be stored"
        log(_log, logging.ERROR, "waiting", trouble=what, seconds=self._pause)
        self._set("waiting", what)
        self._stop.wait(self._pause)
        self._pause = min(self._pause * 2, LONGEST_PAUSE)

    def _carry_out(self, job: Job) -> None:
        from statebridge.engine.run_experiment import run_experiment  # noqa: PLC0415 - loads torch

        if job.pair not in self._settings.pairs:
            raise StatebridgeError(f"pair {job.pair}: is not listed any more")
        experiment = stored_experiment(job)
        if self._pool is not None and not experiment.runs_remotely:
            experiment = spread(experiment, self._settings.placement)
        pair = self._models.pair(job.pair, experiment)
        self._pairs[job.pair] = self._models.describe(job.pair)
        progress = JobProgress(self._database, job.id, self._stop)
        reuse = EarlierLanes(self._database, job) if self._settings.reuse else None
        with carried_on():
            run_experiment(
                experiment,
                run_path(job.id),
                pair=pair,
                progress=progress,
                reuse=reuse,
                fits=EarlierFits(job.owner) if self._settings.reuse else None,
            )
        keep_fitted_translators(self._database, job, experiment)

    def _set(self, state: str, detail: str = "") -> None:
        self._status = (state, detail)
        self._beat()

    def _beat(self) -> None:
        state, detail = self._status
        with contextlib.suppress(SQLAlchemyError):
            pid, pairs = os.getpid(), dict(self._pairs)
            queue.beat(self._database, pid, state, detail, pairs)

    def _beat_on(self) -> None:
        while not self._stop.wait(BEAT_SECONDS):
            self._beat()


def _reason(error: Exception) -> str:
    """Return the error as clients see it: our own message, or only the kind of error."""
    if isinstance(error, StatebridgeError):
        return str(error)
    if _out_of_memory(error):
        return "out of memory; give a smaller execution.max_lanes or fewer new tokens"
    return f"internal error ({type(error).__name__}); the operator's log has more at level debug"


def _out_of_memory(error: BaseException | None) -> bool:
    """Whether an error, or one in its chain of causes, is that memory ran out."""
    from statebridge.engine.executors.memory import is_out_of_memory  # noqa: PLC0415 - loads torch

    while error is not None:
        # The system reports it when a file is mapped or a process started.
        system = isinstance(error, OSError) and error.errno == errno.ENOMEM
        if system or is_out_of_memory(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def log_recovered(job: Job) -> None:
    """Log a job that a dead worker left and that is queued again, or has failed."""
    log(_log, logging.WARNING, "job recovered", job=job.id, state=job.state)
