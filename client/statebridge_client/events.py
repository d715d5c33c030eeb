"""An experiment's events, followed across lost connections.

This module decides what to ask next and how long to pause; the senders open the streams.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
from httpx_sse import ServerSentEvent

from statebridge.errors import BusyError, ServerError, StatebridgeError, UnreachableError
from statebridge.results.service_records import ENDED, ExperimentStatus
from statebridge_client.call import Call, model_of, request_id, resource, retry_after, timeouts
from statebridge_client.connection import Connection
from statebridge_client.problems import error_of, unreachable

SILENCE_SECONDS = 60.0
"""A stream that says nothing for so long, not even that it is still there, is dead: the server
writes a line every 15 s."""

POLL_SECONDS = 2.0
"""Between two looks while the server has no room for another stream."""

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 15.0
"""Seconds before a stream is opened again; doubled while that fails."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to an experiment."""

    kind: str
    """`state` or `progress`."""
    state: str
    """queued, running, done, failed or cancelled."""
    stage: str | None = None
    """Stage of a progress event: load, capture, train, quality, stitch, reuse, run."""
    done: int = 0
    """How many of `total`: in the stage `run` lanes, in others what they count."""
    total: int = 0
    rows_per_second: float | None = None
    seconds_left: float | None = None
    error: str | None = None
    id: str | None = None
    """Its number; None for a state that the server was asked for instead."""


def read_event(sent: ServerSentEvent) -> Event:
    """Return a server-sent event as one of ours.

    Raises:
        ServerError: Its data are not those of a Statebridge server.
    """
    try:
        data: dict[str, Any] = json.loads(sent.data)
        return Event(
            kind=sent.event,
            state=str(data["state"]),
            stage=data.get("stage"),
            done=int(data.get("done", 0)),
            total=int(data.get("total", 0)),
            rows_per_second=data.get("rows_per_second"),
            seconds_left=data.get("seconds_left"),
            error=data.get("error"),
            id=sent.id or None,
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ServerError(f"an event of the server cannot be read: {sent!r:.200}") from None


def speed(event: Event) -> str:
    """Return the speed and the time left in words; nothing where they are not known."""
    if event.rows_per_second is None or event.seconds_left is None:
        return ""
    minutes, seconds = divmod(round(event.seconds_left), 60)
    hours, minutes = divmod(minutes, 60)
    left = f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
    return f"{event.rows_per_second:.1f} lanes/s, {left} left"


@dataclass
class EventFollower:
    """The next step to see every event of one experiment until it has ended.

    `patience` is for how many seconds on end the server may be out of reach. With `latest`
    the first event is the last one there is, rather than the experiment's first.
    """

    connection: Connection
    experiment_id: str
    patience: float
    latest: bool = False
    last_id: str | None = None
    state: str | None = None
    ended: bool = False
    _contact: float = field(default_factory=time.monotonic)
    _pause: float = FIRST_PAUSE
    _stream_after: float = 0.0
    _look_first: bool = False
    _streaming: bool = False

    @property
    def look(self) -> Call[ExperimentStatus]:
        """Request for the state of the experiment."""
        path = resource("experiments", self.experiment_id)
        return Call("GET", path, model_of(ExperimentStatus), repeatable=True)

    def may_stream(self) -> bool:
        """Whether to open a stream, rather than to ask for the state of the experiment."""
        return not self._look_first and time.monotonic() >= self._stream_after

    def request(self) -> dict[str, Any]:
        """Return the arguments of `httpx_sse.connect_sse`."""
        headers = request_id()
        if self.last_id is not None:
            headers["Last-Event-ID"] = self.last_id
        return {
            "method": "GET",
            "url": resource("experiments", self.experiment_id, "events"),
            "params": {"latest": "true"} if self.latest else {},
            "headers": headers,
            "timeout": timeouts(SILENCE_SECONDS),
        }

    def accepts(self, response: httpx.Response) -> bool:
        """Whether an answer is a stream of events."""
        kind = response.headers.get("content-type", "")
        self._streaming = response.status_code == 200 and kind.startswith("text/event-stream")
        return self._streaming

    def received(self, sent: ServerSentEvent) -> Iterator[Event]:
        """Yield the event that was sent; a comment or a pause alone is none."""
        self._reached()
        if sent.data:
            event = read_event(sent)
            self.last_id = event.id or self.last_id
            self.state = event.state
            yield event

    def closed(self) -> None:
        """Take the end of a stream: the experiment has ended, or the server stops."""
        self._lost_stream()
        # Not with the first event of an end: one that went on afterwards has more of them.
        self.ended = self.state in ENDED

    def refused(self, response: httpx.Response) -> None:
        """Take the answer that came in a stream's place.

        Raises:
            StatebridgeError: It will not become better: a wrong key, an unknown experiment.
        """
        error = error_of(response, self.connection)
        if isinstance(error, BusyError):
            self._reached()
            wait = retry_after(response.headers)
            self._stream_after = time.monotonic() + (LONGEST_PAUSE if wait is None else wait)
            self._look_first, self._pause = True, 0.0
            return
        raise error

    def polled(self, status: ExperimentStatus) -> Iterator[Event]:
        """Yield what a look at the experiment says, in the form of an event."""
        self._reached()
        self._look_first = False
        self.state, self.ended = status.state, status.state in ENDED
        yield Event(
            kind="state",
            state=status.state,
            done=status.rows_done,
            total=status.rows_total,
            error=status.error,
        )

    def failed(self, error: Exception) -> None:
        """Take a lost connection, or that the server could not be reached.

        Raises:
            StatebridgeError: It will not become better, or it has lasted for too long.
        """
        self._lost_stream()
        passing = isinstance(error, UnreachableError | BusyError)
        if isinstance(error, StatebridgeError) and not passing:
            raise error
        out_of_reach = time.monotonic() - self._contact
        if out_of_reach >= self.patience:
            if isinstance(error, StatebridgeError):
                raise error
            raise unreachable(self.connection, error, out_of_reach) from error

    def pause(self) -> float:
        """Return for how many seconds to wait before the next request."""
        pause = self._pause
        self._pause = max(FIRST_PAUSE, min(2 * pause, LONGEST_PAUSE))
        if not self._look_first and time.monotonic() < self._stream_after:
            return POLL_SECONDS
        return pause

    def _lost_stream(self) -> None:
        # Comments keep a quiet stream open; until it was lost the server was within reach.
        if self._streaming:
            self._streaming = False
            self._reached()

    def _reached(self) -> None:
        self._contact, self._pause = time.monotonic(), FIRST_PAUSE
