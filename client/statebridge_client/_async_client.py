"""The asynchronous client."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from statebridge_client import _experiment_calls, _input_calls, _scores, _submission
from statebridge_client._async_inputs import AsyncCorpora, AsyncDatasets, AsyncTranslators
from statebridge_client._async_remote_run import AsyncRemoteRun
from statebridge_client._async_sender import AsyncSender
from statebridge_client._client import PAGE
from statebridge_client._connection import resolve_connection
from statebridge_client._records import ExperimentStatus, PairInfo
from statebridge_client._retry import Retry
from statebridge_client._submission import ExperimentLike

if TYPE_CHECKING:
    import httpx

    from statebridge.records import Direction
    from statebridge_client._records import State
    from statebridge_client._scores import Scores


class AsyncClient:
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
        """Take where to connect; nothing is sent yet.

        Args:
            url: Of the server; `STATEBRIDGE_URL`, else `http://127.0.0.1:8000`.
            api_key: `sb_...`; `STATEBRIDGE_API_KEY`, else the file of `STATEBRIDGE_API_KEY_FILE`,
                else none.
            key_file: A file that holds the key.
            retry: How patient to be with what may pass.
            transport: Of httpx, for certificates or proxies of one's own, and for tests.

        Raises:
            InputError: The URL or the key cannot be one.
        """
        connection = resolve_connection(url, api_key, key_file)
        self._sender = AsyncSender(connection, retry or Retry(), transport)
        self.url = connection.url
        self.datasets = AsyncDatasets(self._sender)
        self.corpora = AsyncCorpora(self._sender)
        self.translators = AsyncTranslators(self._sender)

    def __repr__(self) -> str:
        return f"<AsyncClient of {self.url}>"

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
        await self._sender.close()

    async def submit(
        self,
        experiment: ExperimentLike,
        overrides: Mapping[str, Any] | None = None,
        *,
        priority: int = 0,
        shared: bool = False,
        idempotency_key: str | None = None,
    ) -> AsyncRemoteRun:
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
        steps = _submission.submit(
            experiment,
            overrides,
            priority=priority,
            shared=shared,
            idempotency_key=idempotency_key,
        )
        status = await self._sender.carry_out(steps)
        return AsyncRemoteRun(self._sender, status.id, status.name)

    async def get(self, experiment_id: str) -> AsyncRemoteRun:
        """Return a run that was submitted earlier.

        Raises:
            NotFoundError: There is none of that id, or this key may not see it.
        """
        status = await self._sender.send(_experiment_calls.get(experiment_id))
        return AsyncRemoteRun(self._sender, status.id, status.name)

    async def experiments(
        self, *, states: Sequence[State] = (), limit: int | None = None
    ) -> AsyncIterator[ExperimentStatus]:
        """Yield how experiments stand, newest first, `limit` of them at most."""
        before: str | None = None
        left = limit
        while left is None or left > 0:
            size = PAGE if left is None else min(PAGE, left)
            page, before = await self._sender.send(
                _experiment_calls.list_page(states, before, size)
            )
            for status in page:
                yield status
            if before is None:
                return
            left = None if left is None else left - len(page)

    async def pairs(self) -> list[PairInfo]:
        """List the pairs that experiments may name, and what of them is loaded."""
        return await self._sender.send(_input_calls.list_pairs())

    async def score(
        self, predictions: Iterable[Mapping[str, Any]], *, direction: Direction = "fwd"
    ) -> Scores:
        """Score predictions that were made elsewhere; nothing is stored.

        Args:
            predictions: `row_id`, `gold`, `prediction`, and if wanted `condition` and `seed`.
            direction: `fwd` or `rev`.
        """
        return await self._sender.send(_scores.score(predictions, direction))
