"""A submitted experiment, from the submission to the report."""

from __future__ import annotations

import shutil
import tempfile
import time
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial, wraps
from pathlib import Path
from typing import Concatenate, Generic, ParamSpec, TypeVar, cast

from anyio import to_thread

from statebridge.errors import BusyError, RunFailedError
from statebridge.results.service_records import ExperimentStatus
from statebridge.run import RowCount, Run
from statebridge_client.call import Call, model_of, read_nothing, resource
from statebridge_client.caller import AsyncCaller, Caller, Follow, OnServer, S, Steps, operation
from statebridge_client.download import download
from statebridge_client.events import Event, EventFollower, speed

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")

PATIENCE = 900.0
"""Seconds on end that a server may be out of reach while its experiment is waited for."""


def status_call(experiment_id: str) -> Call[ExperimentStatus]:
    """Return the request for an experiment's state."""
    path = resource("experiments", experiment_id)
    return Call("GET", path, model_of(ExperimentStatus), repeatable=True)


class RunMethods(OnServer[S], Generic[S, R]):
    """Methods that runs of both clients have beyond those of `statebridge.Run`."""

    def __init__(self, caller: S, experiment_id: str, name: str) -> None:
        super().__init__(caller)
        self.id = experiment_id
        self._name = name
        self._folder: Path | None = None
        self._copied = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} ({self.name}) on {self._caller.connection.url}>"

    @property
    def name(self) -> str:
        """Name of the experiment."""
        return self._name

    def _follower(self, *, latest: bool, patience: float) -> EventFollower:
        return EventFollower(self._caller.connection, self.id, patience, latest)

    @operation
    def status(self) -> Call[ExperimentStatus]:
        """Return the state of the experiment."""
        return status_call(self.id)

    @operation
    def wait(
        self,
        *,
        progress: bool = True,
        timeout: float | None = None,
        patience: float = PATIENCE,
    ) -> Steps[R]:
        """Wait until the experiment is done, across restarts of the server; return this run.

        Args:
            progress: Show bars in a terminal or notebook, elsewhere a line now and then.
            timeout: Seconds to wait at most; the experiment goes on all the same.
            patience: Seconds on end that the server may be out of reach.

        Raises:
            RunFailedError: It failed, or was cancelled.
            BusyError: It has not ended within `timeout`.
            UnreachableError: The server was out of reach for longer than `patience`.
        """
        from statebridge.progress import show_progress  # noqa: PLC0415 - loads rich

        end = None if timeout is None else time.monotonic() + timeout
        with show_progress(quiet=not progress, name=self.name) as show:

            def take(event: Event) -> None:
                stage = event.stage if event.kind == "progress" else None
                show(stage or event.state, event.done, event.total, speed(event))
                if end is not None and time.monotonic() > end:
                    raise BusyError(
                        f"experiment {self.id} is still {event.state} after {timeout} s"
                    )

            yield Follow(self._follower(latest=True, patience=patience), take)
        status: ExperimentStatus = yield status_call(self.id)
        check_done(status)
        return cast("R", self)

    @operation
    def cancel(self) -> Call[ExperimentStatus]:
        """Cancel: at once where it waits, after its group of rows where it runs."""
        return self._post("cancel")

    @operation
    def resume(self) -> Call[ExperimentStatus]:
        """Queue a failed or cancelled experiment again; it goes on after its last rows."""
        return self._post("resume")

    def _post(self, action: str) -> Call[ExperimentStatus]:
        return Call("POST", resource("experiments", self.id, action), model_of(ExperimentStatus))

    @operation
    def delete(self) -> Call[None]:
        """Delete the ended experiment with its rows; translators that it fitted stay."""
        return Call("DELETE", resource("experiments", self.id), read_nothing, repeatable=True)

    @operation
    def download(self, out: str | Path) -> Steps[Path]:
        """Write a run directory as a run here would have; the same call again goes on.

        Raises:
            ResultError: No row is committed yet, or the directory holds another run.
            EnvironmentFault: The directory cannot be written.
        """
        return download(self.id, out)

    def _copy(self) -> Steps[Path]:
        """Bring the copy of the run directory up to date; it goes with this object."""
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="statebridge-"))
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        out = self._folder / "run"
        if not self._copied:
            status: ExperimentStatus = yield status_call(self.id)
            yield from download(self.id, out)
            self._copied = status.state == "done"
        return out


class RemoteRun(RunMethods[Caller, "RemoteRun"], Run):
    """An experiment on a server, with the members of a `statebridge.Run`.

    Results are worked out here, from a copy of the run directory that is downloaded when it is
    first needed and brought up to date until the experiment is done.
    """

    def __init__(self, caller: Caller, experiment_id: str, name: str) -> None:
        Run.__init__(self)
        RunMethods.__init__(self, caller, experiment_id, name)

    @property
    def path(self) -> Path:
        """The copy of the run directory; it is removed with this object."""
        self._fetch()
        return super().path

    @property
    def state(self) -> str:
        """State on the server: queued, running, done, failed or cancelled."""
        return self.status().state

    @property
    def complete(self) -> bool:
        """Whether the experiment is done."""
        return self.state == "done"

    @property
    def progress(self) -> RowCount:
        """Number of lanes that the server has committed, and number of all lanes."""
        status = self.status()
        return RowCount(status.rows_done, status.rows_total)

    def events(self, *, latest: bool = False, patience: float = PATIENCE) -> Iterator[Event]:
        """Yield what happens until the experiment has ended.

        Lost connections are opened again where they broke off; a server that has no room for
        another stream is asked every two seconds instead.

        Args:
            latest: Begin with the last event there is, rather than with the first.
            patience: Seconds on end that the server may be out of reach.

        Raises:
            UnreachableError: It was out of reach for longer.
        """
        return self._caller.follow(self._follower(latest=latest, patience=patience))

    def _fetch(self) -> None:
        self.sources = (self._caller.carry_out(self._copy()),)


class _Copy(Run):
    """A run here whose directory is removed with its owner."""

    def __init__(self, path: Path, owner: object) -> None:
        super().__init__(path)
        self._owner = owner


def _in_thread(
    method: Callable[Concatenate[Run, P], T],
) -> Callable[Concatenate[AsyncRemoteRun, P], Awaitable[T]]:
    """Return a method of `Run` as one of `AsyncRemoteRun`: the copy is fetched, then asked."""

    @wraps(method)
    async def call(self: AsyncRemoteRun, /, *args: P.args, **kwargs: P.kwargs) -> T:
        run = await self.local()
        return await to_thread.run_sync(partial(method, run, *args, **kwargs))

    return call


class AsyncRemoteRun(RunMethods[AsyncCaller, "AsyncRemoteRun"]):
    """As `RemoteRun`, with every wait given to the event loop.

    What `RemoteRun` has as attributes, such as `experiment`, is in the `Run` of `local()`.
    """

    async def local(self) -> Run:
        """Return the results so far as a run here; in a directory of its own."""
        return _Copy(await self._caller.carry_out(self._copy()), self)

    def events(self, *, latest: bool = False, patience: float = PATIENCE) -> AsyncIterator[Event]:
        """Yield what happens until the experiment has ended; see `RemoteRun.events`."""
        return self._caller.follow(self._follower(latest=latest, patience=patience))

    results = _in_thread(Run.results)
    rows = _in_thread(Run.rows)
    scores = _in_thread(Run.scores)
    score = _in_thread(Run.score)
    compare = _in_thread(Run.compare)
    verdict = _in_thread(Run.verdict)
    report = _in_thread(Run.report)
    export = _in_thread(Run.export)
    validate = _in_thread(Run.validate)
    track = _in_thread(Run.track)


def check_done(status: ExperimentStatus) -> None:
    """Refuse an experiment that has ended without being done.

    Raises:
        RunFailedError: It failed, with the server's reason, or was cancelled.
    """
    if status.state == "failed":
        raise RunFailedError(f"experiment {status.id} ({status.name}) failed: {status.error}")
    if status.state == "cancelled":
        raise RunFailedError(
            f"experiment {status.id} ({status.name}) was cancelled after {status.rows_done} of "
            f"{status.rows_total} rows"
        )
