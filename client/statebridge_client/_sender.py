"""Sending calls and following event streams, synchronously: all that touches the network."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import httpx

from statebridge.errors import StatebridgeError
from statebridge_client._call import Call, Steps
from statebridge_client._connection import Connection
from statebridge_client._events import Event, EventFollower
from statebridge_client._problems import check_status, unreachable
from statebridge_client._requests import http_options, is_done, request_arguments
from statebridge_client._retry import Retry

if TYPE_CHECKING:
    from statebridge_client._records import ExperimentStatus

T = TypeVar("T")
log = logging.getLogger("statebridge.client")


class Sender:
    """One server, one key, one pool of connections."""

    def __init__(
        self, connection: Connection, retry: Retry, transport: httpx.BaseTransport | None
    ) -> None:
        self.connection = connection
        self.retry = retry
        self._http = httpx.Client(transport=transport, **http_options(connection))

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def send(self, call: Call[T]) -> T:
        """Send a call, again where that is safe, and return its answer.

        Raises:
            StatebridgeError: Refused, failed, or unreachable.
        """
        began = time.monotonic()
        for attempt in itertools.count(1):
            try:
                response = self._http.request(**request_arguments(call))
            except httpx.TransportError as error:
                pause = self.retry.after_error(call, attempt)
                if pause is None:
                    raise unreachable(self.connection, error, time.monotonic() - began) from error
            else:
                pause = self.retry.after_answer(
                    call, attempt, response.status_code, response.headers
                )
                if pause is None:
                    if not is_done(call, attempt, response.status_code):
                        check_status(response, self.connection, call)
                    return call.parse(response)
            log.info("%s %s: trying again in %.1f s", call.method, call.path, pause)
            time.sleep(pause)
        raise AssertionError  # itertools.count has no end

    def carry_out(self, steps: Steps[T]) -> T:
        """Send the calls of a piece of work and return its result."""
        try:
            call = next(steps)
            while True:
                try:
                    answer: Any = self.send(call)
                except StatebridgeError as error:
                    call = steps.throw(error)
                else:
                    call = steps.send(answer)
        except StopIteration as end:
            result: T = end.value
            return result

    def follow(
        self, follower: EventFollower, status: Callable[[], ExperimentStatus]
    ) -> Iterator[Event]:
        """Yield an experiment's events until it has ended, across lost connections."""
        while not follower.ended:
            try:
                if follower.may_stream():
                    with self._http.stream(**follower.request()) as response:
                        if follower.accepts(response.status_code, response.headers):
                            for line in response.iter_lines():
                                yield from follower.feed(line)
                            follower.closed()
                        else:
                            response.read()
                            follower.refused(response)
                else:
                    yield from follower.polled(status())
            except (httpx.TransportError, StatebridgeError) as error:
                follower.failed(error)
            if not follower.ended:
                time.sleep(follower.pause())
