"""Every refusal of a server, and every answer that is none, as one line of the right class."""

from __future__ import annotations

import socket
from typing import Any

import httpx
import pytest

from statebridge.errors import (
    AccessError,
    BusyError,
    DatasetError,
    ExperimentError,
    InputError,
    NotFoundError,
    ResultError,
    ServerError,
    StatebridgeError,
    TranslatorError,
    UnreachableError,
)
from statebridge_client import Client
from tests.client.answers import URL, Script, answer, problem, status_of
from tests.client.test_retry import EXPERIMENT


def refused(response: httpx.Response, key: str | None = None) -> StatebridgeError:
    with (
        Script([response]).client(key, attempts=1) as client,
        pytest.raises(StatebridgeError) as caught,
    ):
        client.pairs()
    output = str(caught.value)
    assert "\n" not in output
    assert output.isprintable()
    return caught.value


@pytest.mark.parametrize(
    ("status", "kind", "exit_code"),
    [
        (400, InputError, 2),
        (401, AccessError, 6),
        (403, AccessError, 6),
        (404, NotFoundError, 2),
        (405, ServerError, 5),
        (408, InputError, 2),
        (409, InputError, 2),
        (413, InputError, 2),
        (415, InputError, 2),
        (422, InputError, 2),
        (429, BusyError, 7),
        (500, ServerError, 5),
        (503, BusyError, 7),
        (507, BusyError, 7),
    ],
)
def test_statuses(status: int, kind: type[StatebridgeError], exit_code: int) -> None:
    error = refused(problem(status, "this is why"))
    assert type(error) is kind
    assert error.exit_code == exit_code
    assert "this is why (request f00d)" in str(error)


def test_a_refusal_of_the_key_says_which_setting_to_look_at() -> None:
    assert "set STATEBRIDGE_API_KEY, or give a key file" in str(refused(problem(401)))
    for status in (401, 403):
        output = str(refused(problem(status), key="sb_secret"))
        assert "check the key in api_key" in output
        assert "sb_secret" not in output


def test_a_refusal_is_one_printable_line() -> None:
    output = str(refused(problem(422, "two\nlines \x1b[31mred\x00" + "x" * 10)))
    assert r"two lines \x1b[31mred\x00xxx" in output


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        (lambda client: client.submit(EXPERIMENT), ExperimentError),
        (lambda client: client.datasets.get("x"), DatasetError),
        (lambda client: client.datasets.delete("x"), DatasetError),
        (lambda client: client.corpora.get("x"), DatasetError),
        (lambda client: client.corpora.delete("x"), DatasetError),
        (lambda client: client._caller.carry_out(upload_call()), TranslatorError),
        (lambda client: client.score([]), InputError),
    ],
)
def test_the_class_is_that_of_what_was_sent(call: Any, kind: type[StatebridgeError]) -> None:
    with Script([problem(422)]).client() as client, pytest.raises(StatebridgeError) as caught:
        call(client)
    assert type(caught.value) is kind


def upload_call() -> Any:
    from statebridge_client.uploads import upload_translator

    return upload_translator(b"x", "x", shared=False)


def test_results_that_are_not_there_are_an_error_of_results() -> None:
    for ask in ("scores", "compare", "results"):
        queued = answer(status_of("queued"))
        script = Script([queued, queued, problem(409, "no row is committed yet")])
        with script.client() as client, pytest.raises(ResultError, match="no row is committed"):
            getattr(client.get("exp_1"), ask)()


def test_a_server_that_cannot_be_reached() -> None:
    script = Script([httpx.ConnectError("[Errno 111] Connection refused")])
    with script.client(attempts=1) as client, pytest.raises(UnreachableError) as caught:
        client.pairs()
    output = str(caught.value)
    assert output.startswith(f"{URL}: cannot be reached ([Errno 111] Connection refused); check ")
    assert "STATEBRIDGE_URL" in output
    assert caught.value.exit_code == 5


def test_a_closed_port_is_unreachable() -> None:
    from statebridge_client import Retry

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
    retry = Retry(attempts=2, first_seconds=0.01)
    with Client(url, retry=retry) as client, pytest.raises(UnreachableError, match=url):
        client.pairs()


@pytest.mark.parametrize(
    ("response", "kind"),
    [
        (httpx.Response(200, html="<p>hello"), ServerError),
        (httpx.Response(404, html="<p>not found"), ServerError),
        (httpx.Response(302, headers={"location": "https://login.example.org"}), ServerError),
        (httpx.Response(200, json={"pairs": [{"name": "x"}]}), ServerError),
        (httpx.Response(200, json=[]), ServerError),
        (httpx.Response(200, json={"other": 1}), ServerError),
        (
            httpx.Response(422, content=b"{", headers={"content-type": "application/problem+json"}),
            ServerError,
        ),
        (
            httpx.Response(422, json=[], headers={"content-type": "application/problem+json"}),
            ServerError,
        ),
        (httpx.Response(502, html="<p>bad gateway"), UnreachableError),
    ],
)
def test_what_no_statebridge_server_says(response: httpx.Response, kind: type) -> None:
    error = refused(response)
    assert type(error) is kind
    assert "STATEBRIDGE_URL" in str(error) or "a proxy answers 502" in str(error)


def test_the_key_goes_to_the_server_and_each_request_has_an_id() -> None:
    script = Script([answer({"pairs": []}), answer({"pairs": []})])
    with script.client("sb_secret") as client:
        client.pairs()
        client.pairs()
    first, second = script.requests
    assert first.headers["authorization"] == "Bearer sb_secret"
    assert first.headers["user-agent"].startswith("statebridge/")
    assert first.headers["x-request-id"] != second.headers["x-request-id"]
