"""Carrying out requests and following event streams: all that touches the network.

A method of either client describes its work as a generator of steps, declared once; `Caller` and
`AsyncCaller` carry the steps out, each in its own way of waiting.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator
from dataclasses import dataclass
from functools import wraps
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar, overload

import anyio
import httpx
from httpx_sse import aconnect_sse, connect_sse

from statebridge.errors import StatebridgeError
from statebridge_client.call import Call, Retry, http_options, request_arguments
from statebridge_client.connection import Connection
from statebridge_client.events import Event, EventFollower
from statebridge_client.problems import check_status, environment_checked, unreachable

P = ParamSpec("P")
T = TypeVar("T")
log = logging.getLogger("statebridge.client")


@dataclass(frozen=True, slots=True)
class Pause:
    """A step that waits."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Follow:
    """A step that shows each event of an experiment until it has ended."""

    follower: EventFollower
    show: Callable[[Event], None]


Steps = Generator[Call[Any] | Follow, Any, T]
"""Work that takes several requests: yields calls, receives their answers, returns its result.

An error of a call is thrown into it where the call was yielded.
"""

Work = Call[T] | Steps[T]
_Wire = Generator[Call[Any] | Follow | Pause, Any, T]


def _wire_steps(work: Work[T], connection: Connection, retry: Retry) -> _Wire[T]:
    """Yield what to send, follow and wait for, with every call repeated as `retry` says."""
    if isinstance(work, Call):
        return (yield from _attempts(work, connection, retry))
    try:
        step = next(work)
        while True:
            try:
                if isinstance(step, Follow):
                    answer: Any = yield step
                else:
                    answer = yield from _attempts(step, connection, retry)
            except BaseException as error:
                step = work.throw(error)
            else:
                step = work.send(answer)
    except StopIteration as end:
        result: T = end.value
        return result


def _attempts(call: Call[T], connection: Connection, retry: Retry) -> _Wire[T]:
    """Yield a call, again where that is safe, and pauses; return its parsed answer.

    Raises:
        StatebridgeError: Refused, failed, or unreachable.
    """
    began = time.monotonic()
    for attempt in itertools.count(1):
        try:
            response: httpx.Response = yield call
        except httpx.TransportError as error:
            pause = retry.after_error(call, attempt)
            if pause is None:
                raise unreachable(connection, error, time.monotonic() - began) from error
        else:
            pause = retry.after_answer(call, attempt, response.status_code, response.headers)
            if pause is None:
                # A deletion that is sent again may have succeeded before its answer was lost.
                if not (call.method == "DELETE" and attempt > 1 and response.status_code == 404):
                    check_status(response, connection, call)
                return call.parse(response)
        log.info("%s %s: trying again in %.1f s", call.method, call.path, pause)
        yield Pause(pause)
    raise AssertionError  # itertools.count has no end


class Caller:
    """One server, one key, one pool of connections."""

    def __init__(
        self, connection: Connection, retry: Retry, transport: httpx.BaseTransport | None
    ) -> None:
        self.connection = connection
        self.retry = retry
        with environment_checked():
            self.http = httpx.Client(transport=transport, **http_options(connection))

    def carry_out(self, work: Work[T]) -> T:
        """Send the calls of a piece of work and return its result."""
        steps = _wire_steps(work, self.connection, self.retry)
        try:
            step = next(steps)
            while True:
                try:
                    answer = self._take(step)
                except BaseException as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(answer)
        except StopIteration as end:
            result: T = end.value
            return result

    def _take(self, step: Call[Any] | Follow | Pause) -> httpx.Response | None:
        if isinstance(step, Call):
            return self.http.request(**request_arguments(step))
        if isinstance(step, Pause):
            time.sleep(step.seconds)
        else:
            for event in self.follow(step.follower):
                step.show(event)
        return None

    def follow(self, follower: EventFollower) -> Iterator[Event]:
        """Yield an experiment's events until it has ended, across lost connections."""
        while not follower.ended:
            try:
                if follower.may_stream():
                    with connect_sse(self.http, **follower.request()) as source:
                        if follower.accepts(source.response):
                            for sent in source.iter_sse():
                                yield from follower.received(sent)
                            follower.closed()
                        else:
                            source.response.read()
                            follower.refused(source.response)
                else:
                    yield from follower.polled(self.carry_out(follower.look))
            except (httpx.TransportError, StatebridgeError) as error:
                follower.failed(error)
            if not follower.ended:
                time.sleep(follower.pause())


class AsyncCaller:
    """As `Caller`, with every wait given to the event loop."""

    def __init__(
        self, connection: Connection, retry: Retry, transport: httpx.AsyncBaseTransport | None
    ) -> None:
        self.connection = connection
        self.retry = retry
        with environment_checked():
            self.http = httpx.AsyncClient(transport=transport, **http_options(connection))

    async def carry_out(self, work: Work[T]) -> T:
        """Send the calls of a piece of work and return its result."""
        steps = _wire_steps(work, self.connection, self.retry)
        try:
            step = next(steps)
            while True:
                try:
                    answer = await self._take(step)
                except BaseException as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(answer)
        except StopIteration as end:
            result: T = end.value
            return result

    async def _take(self, step: Call[Any] | Follow | Pause) -> httpx.Response | None:
        if isinstance(step, Call):
            return await self.http.request(**request_arguments(step))
        if isinstance(step, Pause):
            await anyio.sleep(step.seconds)
        else:
            async for event in self.follow(step.follower):
                step.show(event)
        return None

    async def follow(self, follower: EventFollower) -> AsyncIterator[Event]:
        """Yield an experiment's events until it has ended, across lost connections."""
        while not follower.ended:
            try:
                if follower.may_stream():
                    async with aconnect_sse(self.http, **follower.request()) as source:
                        if follower.accepts(source.response):
                            async for sent in source.aiter_sse():
                                for event in follower.received(sent):
                                    yield event
                            follower.closed()
                        else:
                            await source.response.aread()
                            follower.refused(source.response)
                else:
                    for event in follower.polled(await self.carry_out(follower.look)):
                        yield event
            except (httpx.TransportError, StatebridgeError) as error:
                follower.failed(error)
            if not follower.ended:
                await anyio.sleep(follower.pause())


S = TypeVar("S", bound=Caller | AsyncCaller)


class OnServer(Generic[S]):
    """Something on a server: its methods are `operation`s of one of the two callers."""

    def __init__(self, caller: S) -> None:
        self._caller = caller


class operation(Generic[P, T]):  # noqa: N801 - used as a decorator
    """A method declared once for both clients.

    The decorated function describes the requests; of an object of `Client` the method returns
    the result, of one of `AsyncClient` an awaitable of it.
    """

    def __init__(self, describe: Callable[Concatenate[Any, P], Call[T] | Steps[T]]) -> None:
        self._describe = describe
        self.__doc__, self.__wrapped__ = describe.__doc__, describe

    @overload
    def __get__(self, owner: None, kind: type | None = None) -> Self: ...
    @overload
    def __get__(self, owner: OnServer[Caller], kind: type | None = None) -> Callable[P, T]: ...
    @overload
    def __get__(
        self, owner: OnServer[AsyncCaller], kind: type | None = None
    ) -> Callable[P, Coroutine[Any, Any, T]]: ...
    def __get__(self, owner: OnServer[Any] | None, kind: type | None = None) -> Any:
        """Return the method of an object; the declaration itself of a class."""
        if owner is None:
            return self

        @wraps(self._describe)
        def call(*args: P.args, **kwargs: P.kwargs) -> Any:
            return owner._caller.carry_out(self._describe(owner, *args, **kwargs))

        return call
