"""Requests that are no HTTP: they reach no application, and are refused in the same shape."""

from __future__ import annotations

import secrets
from http import HTTPStatus

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from statebridge_server.api.problems import problem_response


class ProblemProtocol(H11Protocol):
    """uvicorn's protocol, with problem details in the place of the one answer of its own."""

    def send_400_response(self, msg: str) -> None:
        """Refuse what cannot be read as a request, and close the connection."""
        request_id = secrets.token_hex(8)
        self.logger.warning("%s (request id %s)", msg, request_id)
        answer = problem_response(
            {"state": {"request_id": request_id}},
            400,
            "the request cannot be read as HTTP, or its line and headers are too large",
        )
        headers = [
            *answer.raw_headers,
            (b"x-request-id", request_id.encode("ascii")),
            (b"connection", b"close"),
        ]
        reason = HTTPStatus.BAD_REQUEST.phrase.encode("ascii")
        for event in (
            h11.Response(status_code=400, headers=headers, reason=reason),
            h11.Data(data=bytes(answer.body)),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
