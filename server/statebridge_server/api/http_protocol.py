"""HTTP/1.1 as it comes over the wire: parsed in C, bounded, refused like everything else."""

from __future__ import annotations

import logging
from typing import Any

import httptools
from starlette.responses import Response
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from statebridge_server.api.problems import problem_response
from statebridge_server.api.repeated_requests import LONGEST, WHOLE_REQUEST, RepeatedRequests
from statebridge_server.api.requests import headers_of_each, new_request_id

MOST_BYTES = 64 * 1024
"""Of a request's line and headers together, and of what may stand between two parts of a body."""

TOO_LARGE = f"its line and headers, or what frames its body, are over {MOST_BYTES // 1024} KiB"

MOST_WAITING = 100
"""Requests of one connection that wait for the answers in front of them."""

REPEATED = "repeated_requests"
"""In the state of the application's lifespan: the requests that are known by their bytes."""


class HeadError(Exception):
    """A request's line and headers say too much, or too little, or what is not spoken here."""


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol around a parser in C, with bounds that it lacks.

    The parser keeps a head until its end, however long that is; here it is refused. Its one answer
    of its own gives place to problem details. Trailers, which come after the application has read
    the headers, change none of them. A wish for another protocol is passed over, with nothing of
    the request lost. A request that comes again and has a kept answer is not parsed.
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
        self._upgrading = self._refused = False
        self._reason: str | None = None
        """Why a head that can be parsed was refused."""

    def data_received(self, data: bytes) -> None:
        """Parse what has come, unless all of it is known."""
        if self._refused or self.transport.is_closing():
            return
        quiet = self._is_quiet()
        if quiet and self._repeated is not None:
            answer = self._repeated.answer(data, self.server_state.default_headers)
            if answer is not None:
                self.transport.write(answer)
                self.on_response_complete()
                return
        self._unset_keepalive_if_required()
        self._begun = 0
        self._unfinished += len(data)
        rest: bytes | None = data
        try:
            while rest is not None:
                rest = self._parse(rest)
        except httptools.HttpParserError:
            self._refuse("Invalid HTTP request received.")
            return
        if self._unfinished > MOST_BYTES:
            self._reason = TOO_LARGE
            self._refuse("A part of a request does not end.")
        elif self._is_quiet():  # what came was the rest of a request that was answered before
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )
        elif (
            quiet
            and self._begun == 1
            and self._between
            and self.cycle.keep_alive
            and len(data) <= LONGEST
        ):
            # The application is a task of the event loop, which has not begun.
            self.scope["state"][WHOLE_REQUEST] = data

    def _parse(self, data: bytes) -> bytes | None:
        """Parse bytes; return what is to be parsed in the place of what the parser left."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            # No other protocol is spoken here, so the wish is passed over (RFC 9110, section 7.8).
            # The parser would leave the body out, or take it for the next request.
            version = self.parser.get_http_version().encode("ascii")
            lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, version)]
            lines += [b"%b: %b" % header for header in self.headers if header[0] != b"upgrade"]
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
            self._upgrading = False
            return b"\r\n".join([*lines, b"", b""]) + data[upgrade.args[0] :]
        return None

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
        if self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT":
            self._upgrading = True  # it comes again without that
            return
        self._reason = self._fault()
        if self._reason is not None:
            raise HeadError
        super().on_headers_complete()  # which may refuse the URL
        self._in_head, self._unfinished = False, 0

    def _fault(self) -> str | None:
        """Say what is wrong with a head that can be parsed; None where nothing is."""
        size, hosts, codings = len(self.url), 0, []
        for name, value in self.headers:
            size += len(name) + len(value) + 4  # of colon, space and the line's end
            hosts += name == b"host"
            if name == b"transfer-encoding":
                codings.append(value.lower())
        if size > MOST_BYTES:
            return TOO_LARGE
        if hosts > 1 or (hosts == 0 and self.parser.get_http_version() == "1.1"):
            return "Host: give it once (RFC 9112, section 3.2)"
        if codings not in ([], [b"chunked"]):
            # The parser refuses these too, but after it has given the request on.
            return "Transfer-Encoding: give chunked, or leave it out"
        if self.parser.should_upgrade():
            return "CONNECT: this is a server, not a proxy"
        if len(self.pipeline) >= MOST_WAITING:
            return f"more than {MOST_WAITING} requests wait on this connection"
        return None

    def on_body(self, body: bytes) -> None:
        """Give a part of the body on."""
        self._unfinished = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request."""
        if self._upgrading:
            return
        self._unfinished, self._between = 0, True
        super().on_message_complete()
        if not self.parser.should_keep_alive():
            # A trailer can say so too; the parser reads nothing behind it.
            self.cycle.keep_alive = False
            if self.cycle.response_complete:
                self.transport.close()

    def _refuse(self, msg: str) -> None:
        """Refuse what cannot be read as a request; the connection ends, with what is answered."""
        self._refused = True
        if self.transport.is_closing():
            return
        head = self._in_head or self._between
        if self.cycle is not None and not self.cycle.response_complete:
            if head:
                # What is under way was sent in good order, and is answered.
                self.logger.warning("%s (behind a request that is being answered)", msg)
                self.cycle.keep_alive = False
                return
            if self.pipeline:
                # The broken one is the last of them: those in front are answered, then it is.
                refusal: Any = _refusal(msg, self._reason, self.logger)  # an application of its own
                self.pipeline[0] = (self.cycle, refusal)
                return
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            if self.cycle.response_started:
                # A second answer would be garbage in the first one.
                self.logger.warning("%s (in a request that is being answered)", msg)
                self.transport.close()
                return
        elif not head:  # it was answered before it had come
            self.transport.close()
            return
        answer = _refusal(msg, self._reason, self.logger)
        lines = [STATUS_LINE[answer.status_code]]
        lines += [name + b": " + value + b"\r\n" for name, value in answer.raw_headers]
        self.transport.write(b"".join([*lines, b"\r\n", bytes(answer.body)]))
        self.transport.close()


def _refusal(msg: str, reason: str | None, logger: logging.Logger) -> Response:
    """Return the answer to what cannot be read as a request, having logged it."""
    request_id = new_request_id()
    logger.warning("%s (request id %s)", msg, request_id)
    answer = problem_response(
        {"state": {"request_id": request_id}},
        400,
        f"the request cannot be read as HTTP: {reason or 'it is malformed, or its method unknown'}",
    )
    answer.raw_headers += [*headers_of_each(request_id), (b"connection", b"close")]
    return answer
