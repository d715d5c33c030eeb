"""The synchronous client."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from statebridge_client import _experiment_calls, _input_calls, _scores, _submission
from statebridge_client._connection import resolve_connection
from statebridge_client._inputs import Corpora, Datasets, Translators
from statebridge_client._records import ExperimentStatus, PairInfo
from statebridge_client._remote_run import RemoteRun
from statebridge_client._retry import Retry
from statebridge_client._sender import Sender
from statebridge_client._submission import ExperimentLike

if TYPE_CHECKING:
    import httpx

    from statebridge.records import Direction
    from statebridge_client._records import State
    from statebridge_client._scores import Scores

PAGE = 200
"""Experiments listed with one request."""


class Client:
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
        self._sender = Sender(connection, retry or Retry(), transport)
        self.url = connection.url
        self.datasets = Datasets(self._sender)
        self.corpora = Corpora(self._sender)
        self.translators = Translators(self._sender)

    def __repr__(self) -> str:
        return f"<Client of {self.url}>"

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
        self._sender.close()

    def submit(
        self,
        experiment: ExperimentLike,
        overrides: Mapping[str, Any] | None = None,
        *,
        priority: int = 0,
        shared: bool = False,
        idempotency_key: str | None = None,
    ) -> RemoteRun:
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
        status = self._sender.carry_out(steps)
        return RemoteRun(self._sender, status.id, status.name)

    def get(self, experiment_id: str) -> RemoteRun:
        """Return a run that was submitted earlier.

        Raises:
            NotFoundError: There is none of that id, or this key may not see it.
        """
        status = self._sender.send(_experiment_calls.get(experiment_id))
        return RemoteRun(self._sender, status.id, status.name)

    def experiments(
        self, *, states: Sequence[State] = (), limit: int | None = None
    ) -> Iterator[ExperimentStatus]:
        """Yield how experiments stand, newest first, `limit` of them at most."""
        before: str | None = None
        left = limit
        while left is None or left > 0:
            size = PAGE if left is None else min(PAGE, left)
            page, before = self._sender.send(_experiment_calls.list_page(states, before, size))
            yield from page
            if before is None:
                return
            left = None if left is None else left - len(page)

    def pairs(self) -> list[PairInfo]:
        """List the pairs that experiments may name, and what of them is loaded."""
        return self._sender.send(_input_calls.list_pairs())

    def score(
        self, predictions: Iterable[Mapping[str, Any]], *, direction: Direction = "fwd"
    ) -> Scores:
        """Score predictions that were made elsewhere; nothing is stored.

        Args:
            predictions: `row_id`, `gold`, `prediction`, and if wanted `condition` and `seed`.
            direction: `fwd` or `rev`.
        """
        return self._sender.send(_scores.score(predictions, direction))
