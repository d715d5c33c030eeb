"""HTTP/1.1 as it comes over the wire: parsed in C, bounded, refused like everything else."""

from __future__ import annotations

import secrets
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from statebridge_server.api.problems import problem_response
from statebridge_server.api.repeated_requests import WHOLE_REQUEST, RepeatedRequests

MOST_BYTES = 64 * 1024
"""Of a request's line and headers together, and of what may stand between two parts of a body."""


REPEATED = "repeated_requests"
"""In the state of the application's lifespan: the requests that are known by their bytes."""


class HeadError(Exception):
    """A request's line and headers say too much, or not which host is meant."""


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol around a parser in C, with bounds that it lacks.

    The parser keeps a head until its end, however long that is; here it is refused. Its one answer
    of its own gives place to problem details. Trailers, which come after the application has read
    the headers, are dropped. A request that comes again and has a kept answer is not parsed.
    """

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._repeated: RepeatedRequests | None = self.app_state.get(REPEATED)
        self._in_head = False
        self._unfinished = 0
        """Bytes since anything was last given on: of a head, a chunk's size or a trailer."""
        self._begun = 0
        """Requests that began in what came last."""
        self._between = True
        """Whether what comes next begins a request."""

    def data_received(self, data: bytes) -> None:
        """Parse what has come, unless all of it is known."""
        quiet = self._is_quiet()
        if quiet and self._repeated is not None:
            answer = self._repeated.answer(data, self.server_state.default_headers)
            if answer is not None:
                self.transport.write(answer)
                self.on_response_complete()
                return
        self._begun = 0
        self._unfinished += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._unfinished > MOST_BYTES:
            self.send_400_response("The request's head does not end.")
        elif quiet and self._begun == 1 and self._between and self.cycle.keep_alive:
            # The application is a task of the event loop, which has not begun.
            self.scope["state"][WHOLE_REQUEST] = data

    def _is_quiet(self) -> bool:
        """Whether nothing is under way: no request, no answer, no end of the connection."""
        return (
            self._between
            and (self.cycle is None or (self.cycle.response_complete and self.cycle.keep_alive))
            and not self.flow.write_paused
            and not self.transport.is_closing()
        )

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self._begun += 1
        self._in_head, self._between = True, False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header up, and leave a trailer."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Give a request on to the application.

        Raises:
            HeadError: Refused; the parser turns it into an error of its own.
        """
        self._in_head, self._unfinished = False, 0
        size, hosts = len(self.url), 0
        for name, value in self.headers:
            size += len(name) + len(value) + 4  # of colon, space and the line's end
            hosts += name == b"host"
        if size > MOST_BYTES or hosts > 1:
            raise HeadError
        if hosts == 0 and self.parser.get_http_version() == "1.1":
            raise HeadError  # RFC 9112, section 3.2
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Give a part of the body on."""
        self._unfinished = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request."""
        self._unfinished = 0
        self._between = not self.parser.should_upgrade()
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse what cannot be read as a request, and close the connection."""
        if self.cycle is not None and not self.cycle.response_complete:
            # Another request's answer is on its way, in which a second one would be garbage.
            self.logger.warning("%s (behind a request that is being answered)", msg)
            self.transport.close()
            return
        request_id = secrets.token_hex(8)
        self.logger.warning("%s (request id %s)", msg, request_id)
        answer = problem_response(
            {"state": {"request_id": request_id}},
            400,
            "the request cannot be read as HTTP: its method is unknown, it is malformed, or its "
            f"line and headers are over {MOST_BYTES // 1024} KiB",
        )
        headers = [
            *answer.raw_headers,
            (b"x-request-id", request_id.encode("ascii")),
            (b"connection", b"close"),
        ]
        lines = [b"HTTP/1.1 400 " + HTTPStatus.BAD_REQUEST.phrase.encode("ascii")]
        lines += [name + b": " + value for name, value in headers]
        self.transport.write(b"\r\n".join([*lines, b"", bytes(answer.body)]))
        self.transport.close()
