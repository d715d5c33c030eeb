"""The clients: a Statebridge server, as one key sees it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from statebridge.experiment.reading.given import ExperimentLike
from statebridge.results.service_records import (
    CorpusInfo,
    DatasetInfo,
    DoctorCheck,
    ExperimentList,
    ExperimentStatus,
    PairInfo,
    PairList,
    RowScore,
    Scores,
    State,
    TranslatorInfo,
)
from statebridge_client import submission
from statebridge_client.call import Call, Retry, model_of
from statebridge_client.caller import AsyncCaller, Caller, OnServer, S, Steps, operation
from statebridge_client.connection import resolve_connection
from statebridge_client.inputs import Corpora, Datasets, Translators
from statebridge_client.remote_run import AsyncRemoteRun, RemoteRun, status_call

if TYPE_CHECKING:
    import httpx

    from statebridge.records import Direction

__all__ = [
    "AsyncClient",
    "Client",
    "CorpusInfo",
    "DatasetInfo",
    "DoctorCheck",
    "ExperimentStatus",
    "PairInfo",
    "RowScore",
    "Scores",
    "TranslatorInfo",
]

R = TypeVar("R")

PAGE = 200
"""Experiments listed with one request."""

ANALYSIS_SECONDS = 900.0
"""Longest wait for scores, which the server works out one at a time for all clients."""


class ClientMethods(OnServer[S], Generic[S, R]):
    """Methods of both clients."""

    def __init__(self, caller: S, run: Callable[[S, str, str], R]) -> None:
        super().__init__(caller)
        self._run = run
        self.url = caller.connection.url
        self.datasets = Datasets(caller)
        self.corpora = Corpora(caller)
        self.translators = Translators(caller, run)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.url}>"

    @operation
    def submit(
        self,
        experiment: ExperimentLike,
        overrides: Mapping[str, Any] | None = None,
        *,
        priority: int = 0,
        shared: bool = False,
        idempotency_key: str | None = None,
    ) -> Steps[R]:
        """Submit an experiment; local files that it names are uploaded.

        Args:
            experiment: A file, an `Experiment`, or its fields. A stored dataset or corpus may
                be named by `{sha256: ...}` alone, a stored translator by its id.
            overrides: Fields to change, such as `{"limit": 10}`.
            priority: −100 to 100, among this key's own experiments.
            shared: Let every key read it.
            idempotency_key: The same key with the same experiment gives the same run; made up
                where not given.

        Raises:
            InputError: The file or something that it names is wrong, or the server refuses it.
            BusyError: The queue is full.
        """
        status = yield from submission.submit(
            experiment,
            overrides,
            priority=priority,
            shared=shared,
            idempotency_key=idempotency_key,
        )
        return self._run(self._caller, status.id, status.name)

    @operation
    def doctor(
        self, experiment: ExperimentLike, overrides: Mapping[str, Any] | None = None
    ) -> Steps[list[DoctorCheck]]:
        """Have the server check whether an experiment could run there; nothing is queued.

        Local files that it names are uploaded, as by `submit`. The findings are those of
        `statebridge doctor`; the experiment can run if each is `ready`.

        Args:
            experiment: A file, an `Experiment`, or its fields.
            overrides: Fields to change, such as `{"limit": 10}`.

        Raises:
            InputError: The file or something that it names is wrong, or the server refuses it.
            BusyError: Too many experiments wait for the doctor.
            ServerError: The doctor gave no answer in its time.
        """
        checks = yield from submission.doctor(experiment, overrides)
        return checks

    @operation
    def get(self, experiment_id: str) -> Steps[R]:
        """Return a run that was submitted earlier.

        Raises:
            NotFoundError: There is none of that id, or this key may not see it.
        """
        status: ExperimentStatus = yield status_call(experiment_id)
        return self._run(self._caller, status.id, status.name)

    @operation
    def pairs(self) -> Call[list[PairInfo]]:
        """List the pairs that experiments may name, and what of them is loaded."""
        return Call("GET", "/v1/pairs", model_of(PairList, "pairs"), repeatable=True)

    @operation
    def score(
        self, predictions: Iterable[Mapping[str, Any]], *, direction: Direction = "fwd"
    ) -> Call[Scores]:
        """Score predictions that were made elsewhere; nothing is stored.

        Args:
            predictions: `row_id`, `gold`, `prediction`, and if wanted `aliases` (other right
                answers), `condition` and `seed`.
            direction: `fwd` or `rev`.
        """
        body = {"direction": direction, "predictions": [dict(item) for item in predictions]}
        return Call(
            "POST",
            "/v1/score",
            model_of(Scores),
            headers={"Content-Type": "application/json"},
            content=json.dumps(body).encode("ascii"),
            repeatable=True,  # nothing is stored
            read_seconds=ANALYSIS_SECONDS,
        )


class Client(ClientMethods[Caller, RemoteRun]):
    """A Statebridge server, as one key sees it.

    Every method raises a `StatebridgeError` with one line: `UnreachableError`, `AccessError`,
    `BusyError` and `ServerError` for the server, `InputError` and its kinds for what it refuses.
    """

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        key_file: str | Path | None = None,
        retry: Retry | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """Name the server; nothing is sent yet.

        Args:
            url: Address of the server; `STATEBRIDGE_URL`, else `http://127.0.0.1:8000`.
            api_key: `sb_...`; `STATEBRIDGE_API_KEY`, else the file of `STATEBRIDGE_API_KEY_FILE`,
                else none.
            key_file: A file that holds the key.
            retry: Patience with what may pass.
            transport: Of httpx, for certificates or proxies of one's own, and for tests.

        Raises:
            InputError: The URL or the key cannot be one.
        """
        connection = resolve_connection(url, api_key, key_file)
        super().__init__(Caller(connection, retry or Retry(), transport), RemoteRun)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._caller.http.close()

    def experiments(
        self, *, states: Sequence[State] = (), limit: int | None = None
    ) -> Iterator[ExperimentStatus]:
        """Yield experiments and their states, newest first, `limit` of them at most."""
        pages = _Pages(states, limit)
        while not pages.ended:
            yield from pages.taken(self._caller.carry_out(pages.request()))


class AsyncClient(ClientMethods[AsyncCaller, AsyncRemoteRun]):
    """As `Client`, with every wait given to the event loop."""

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        key_file: str | Path | None = None,
        retry: Retry | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """Name the server, as for `Client`; nothing is sent yet."""
        connection = resolve_connection(url, api_key, key_file)
        super().__init__(AsyncCaller(connection, retry or Retry(), transport), AsyncRemoteRun)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._caller.http.aclose()

    async def experiments(
        self, *, states: Sequence[State] = (), limit: int | None = None
    ) -> AsyncIterator[ExperimentStatus]:
        """Yield experiments and their states, newest first, `limit` of them at most."""
        pages = _Pages(states, limit)
        while not pages.ended:
            for status in pages.taken(await self._caller.carry_out(pages.request())):
                yield status


class _Pages:
    """Position in a list of experiments that comes page by page."""

    def __init__(self, states: Sequence[State], limit: int | None) -> None:
        self._states = list(states)
        self._left = limit
        self._before: str | None = None
        self.ended = limit is not None and limit <= 0

    def request(self) -> Call[ExperimentList]:
        """Return the request for the next page."""
        size = PAGE if self._left is None else min(PAGE, self._left)
        params = {"state": self._states, "before": self._before, "limit": size}
        parse = model_of(ExperimentList)
        return Call("GET", "/v1/experiments", parse, params=params, repeatable=True)

    def taken(self, page: ExperimentList) -> list[ExperimentStatus]:
        """Return the experiments of a page, and go on behind them."""
        self._before = page.next_before
        self._left = None if self._left is None else self._left - len(page.experiments)
        self.ended = self._before is None or (self._left is not None and self._left <= 0)
        return page.experiments
