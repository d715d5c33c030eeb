"""An experiment's events: read from a stream, followed across lost connections.

The protocol alone: what a line means, whether to ask again, how long to pause. The senders
open the streams.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from statebridge.errors import BusyError, ServerError, StatebridgeError, UnreachableError
from statebridge_client._connection import Connection
from statebridge_client._problems import error_of, unreachable
from statebridge_client._requests import request_id, timeouts
from statebridge_client._retry import retry_after

if TYPE_CHECKING:
    import httpx

    from statebridge_client._records import ExperimentStatus

ENDED = frozenset({"done", "failed", "cancelled"})

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
    """Of a progress event: load, capture, train, quality, stitch, reuse, run."""
    done: int = 0
    """Of `total`: rows over all cells in the stage `run`, and whatever another stage counts."""
    total: int = 0
    rows_per_second: float | None = None
    seconds_left: float | None = None
    error: str | None = None
    id: str | None = None
    """Its number; None where the server was asked how the experiment stands instead."""


class EventParser:
    """Server-sent events, line by line (https://html.spec.whatwg.org, "event-stream")."""

    def __init__(self) -> None:
        self._fields: dict[str, str] = {}

    def feed(self, line: str) -> Event | None:
        """Take a line without its end; return the event that it completes."""
        if line.startswith(":"):
            return None
        if line:
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if name == "data" and "data" in self._fields:
                value = f"{self._fields['data']}\n{value}"
            self._fields[name] = value
            return None
        fields, self._fields = self._fields, {}
        return _event(fields) if "data" in fields else None


def _event(fields: Mapping[str, str]) -> Event:
    try:
        data: dict[str, Any] = json.loads(fields["data"])
        return Event(
            kind=fields.get("event", "message"),
            state=str(data["state"]),
            stage=data.get("stage"),
            done=int(data.get("done", 0)),
            total=int(data.get("total", 0)),
            rows_per_second=data.get("rows_per_second"),
            seconds_left=data.get("seconds_left"),
            error=data.get("error"),
            id=fields.get("id"),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ServerError(f"an event of the server cannot be read: {fields!r:.200}") from None


@dataclass
class EventFollower:
    """What to do next to see every event of one experiment until it has ended.

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
    _parser: EventParser = field(default_factory=EventParser)
    _contact: float = field(default_factory=time.monotonic)
    _pause: float = FIRST_PAUSE
    _stream_after: float = 0.0
    _look_first: bool = False

    def may_stream(self) -> bool:
        """Whether to open a stream, rather than to ask how the experiment stands."""
        return not self._look_first and time.monotonic() >= self._stream_after

    def request(self) -> dict[str, Any]:
        """Return the arguments of `httpx`'s `stream`."""
        self._parser = EventParser()
        headers = {"Accept": "text/event-stream", **request_id()}
        if self.last_id is not None:
            headers["Last-Event-ID"] = self.last_id
        return {
            "method": "GET",
            "url": f"/v1/experiments/{self.experiment_id}/events",
            "params": {"latest": "true"} if self.latest else {},
            "headers": headers,
            "timeout": timeouts(SILENCE_SECONDS),
        }

    def accepts(self, status: int, headers: Mapping[str, str]) -> bool:
        """Whether an answer is a stream of events."""
        return status == 200 and headers.get("content-type", "").startswith("text/event-stream")

    def feed(self, line: str) -> Iterator[Event]:
        """Yield the event that a line of the stream completes, if it does."""
        self._reached()
        event = self._parser.feed(line)
        if event is not None:
            self.last_id = event.id or self.last_id
            self.state = event.state
            yield event

    def closed(self) -> None:
        """The server has closed the stream: the experiment has ended, or the server stops."""
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
        """A connection was lost, or the server could not be reached.

        Raises:
            StatebridgeError: It will not become better, or it has lasted for too long.
        """
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

    def _reached(self) -> None:
        self._contact, self._pause = time.monotonic(), FIRST_PAUSE
