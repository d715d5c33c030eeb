"""A submitted experiment, for an `AsyncClient`."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from anyio import to_thread

from statebridge.errors import BusyError
from statebridge_client import _experiment_calls as calls
from statebridge_client import _results
from statebridge_client._async_sender import AsyncSender
from statebridge_client._download import download, folder_of
from statebridge_client._events import Event, EventFollower
from statebridge_client._records import ExperimentStatus
from statebridge_client._remote_run import PATIENCE
from statebridge_client._rows import Rows, chosen_rows

if TYPE_CHECKING:
    from statebridge.records import ResultSet
    from statebridge.scoring import ConditionScore
    from statebridge.stats import Comparison, Mode
    from statebridge_client._experiment_calls import ExportFormat


class AsyncRemoteRun:
    """As `RemoteRun`, with every wait given to the event loop."""

    def __init__(self, sender: AsyncSender, experiment_id: str, name: str) -> None:
        self._sender = sender
        self._folder: Path | None = None
        self.id = experiment_id
        self.name = name

    def __repr__(self) -> str:
        return f"<AsyncRemoteRun {self.id} ({self.name}) on {self._sender.connection.url}>"

    async def status(self) -> ExperimentStatus:
        """Ask how it stands."""
        return await self._sender.send(calls.get(self.id))

    def events(self, *, latest: bool = False, patience: float = PATIENCE) -> AsyncIterator[Event]:
        """Yield what happens until the experiment has ended.

        Lost connections are opened again where they broke off; a server that has no room for
        another stream is asked every two seconds instead.

        Args:
            latest: Begin with the last event there is, rather than with the first.
            patience: Seconds on end that the server may be out of reach.

        Raises:
            UnreachableError: It was out of reach for longer.
        """
        follower = EventFollower(self._sender.connection, self.id, patience, latest)
        return self._sender.follow(follower, self.status)

    async def wait(
        self,
        *,
        progress: bool = True,
        timeout: float | None = None,
        patience: float = PATIENCE,
    ) -> AsyncRemoteRun:
        """Wait until the experiment is done, across restarts of the server; return this run.

        Args:
            progress: Show a bar in a terminal or notebook, elsewhere a line now and then.
            timeout: Seconds to wait at most; the experiment goes on all the same.
            patience: Seconds on end that the server may be out of reach.

        Raises:
            RunFailedError: It failed, or was cancelled.
            BusyError: It has not ended within `timeout`.
            UnreachableError: The server was out of reach for longer than `patience`.
        """
        from statebridge_client._progress_bar import progress_bar  # noqa: PLC0415 - loads rich

        end = None if timeout is None else time.monotonic() + timeout
        with progress_bar(self.name, shown=progress) as show:
            async for event in self.events(latest=True, patience=patience):
                show(event)
                if end is not None and time.monotonic() > end:
                    raise BusyError(
                        f"experiment {self.id} is still {event.state} after {timeout} s"
                    )
        _results.check_done(await self.status())
        return self

    async def cancel(self) -> ExperimentStatus:
        """Cancel: at once where it waits, after its group of rows where it runs."""
        return await self._sender.send(calls.cancel(self.id))

    async def resume(self) -> ExperimentStatus:
        """Queue a failed or cancelled experiment again; it goes on after its last rows."""
        return await self._sender.send(calls.resume(self.id))

    async def delete(self) -> None:
        """Delete the ended experiment with its rows; translators that it fitted stay."""
        await self._sender.send(calls.delete(self.id))

    async def download(self, out: str | Path) -> Path:
        """Write a run directory as a run here would have; the same call again goes on.

        Raises:
            ResultError: No row is committed yet, or the directory holds another run.
            EnvironmentFault: The directory cannot be written.
        """
        return await self._sender.carry_out(download(self.id, out))

    async def results(self) -> ResultSet:
        """Fetch the committed rows and return them as the library reads a run directory."""
        from statebridge.results.run_results import read_run  # noqa: PLC0415 - with its first use

        if self._folder is None:
            self._folder = folder_of(self)
        folder = await self.download(self._folder / "run")
        return await to_thread.run_sync(read_run, folder)

    async def rows(
        self, *, conditions: Sequence[str] | None = None, seeds: Sequence[int] | None = None
    ) -> Rows:
        """Fetch the committed rows, to iterate over or to make a table of."""
        return chosen_rows(await self.results(), conditions, seeds)

    async def summary(self) -> list[ConditionScore]:
        """Return every condition's scores over the committed rows."""
        return await self._sender.send(calls.summary(self.id))

    async def compare(
        self,
        baseline: str | Sequence[str] | None = None,
        *,
        metrics: Sequence[str] | None = None,
        mode: Mode = "clustered",
        by: Sequence[str] = (),
        margins: Sequence[float] | None = None,
    ) -> Comparison:
        """Compare every condition with one or more baselines, paired by row.

        Without a baseline each is compared with what the receiver does alone with the same
        prompt.

        For what else `statebridge.stats.Settings` can hold, give `results()` to
        `statebridge.stats.compare`.
        """
        return await self._sender.send(
            calls.comparison(self.id, _results.names(baseline), metrics, mode, by, margins)
        )

    async def report(self, path: str | Path) -> Path:
        """Write the report, one HTML page, to a file (or into a folder); return the file."""
        content = await self._sender.send(calls.report(self.id))
        return _results.write_file(_results.file_in(path, "report.html"), content)

    async def export(self, folder: str | Path, format: ExportFormat = "published") -> list[Path]:
        """Write published result files, or tables, into a folder; return the files."""
        _results.check_format(format)
        return _results.write_files(folder, await self._sender.send(calls.export(self.id, format)))
