"""A remote host: its errors as ours, its deadlines, and what it says of itself."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from nnsight import CONFIG
from nnsight.schema.response import ResponseModel, Status

from statebridge.errors import AccessError, ExperimentError, RemoteError
from statebridge.models.hosts import RemoteHost, find_host

SECRET = "0b7c-secret"


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CONFIG.API, "APIKEY", SECRET)


class Model:
    """As nnsight's remote model: it has a repository and a key."""

    repo_id = "lab/model"

    def to_model_key(self) -> str:
        return "model"


def refused(status: int, detail: str) -> Exception:
    """An error as nnsight raises it for an HTTP answer."""
    request = httpx.Request("POST", "http://host.example/request")
    cause = httpx.HTTPStatusError("no", request=request, response=httpx.Response(status))
    error = Exception(f"Failed to send request: {detail}")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "kind", "says"),
    [
        (refused(401, "missing"), AccessError, "NDIF_API_KEY"),
        (refused(403, "Invalid API key."), AccessError, "NDIF_API_KEY"),
        (refused(400, f"Invalid API key format: {SECRET!r}"), AccessError, "NDIF_API_KEY"),
        (refused(503, "no room\nat present"), RemoteError, "no room at present"),
        (ConnectionError(f"refused {SECRET}"), RemoteError, "refused (key)"),
        (TimeoutError(), RemoteError, "TimeoutError"),
        (OSError("Traceback (most recent\n  File x\nKeyError: 1\n"), RemoteError, "lab/model: Key"),
        (
            OSError("no room\nTraceback (most recent\n  File x\n   his…"),
            RemoteError,
            "lab/model: no r",
        ),
    ],
)
def test_a_foreign_error_is_one_line_without_the_key(
    error: Exception, kind: type[RemoteError], says: str
) -> None:
    with (
        pytest.raises(RemoteError) as caught,
        RemoteHost("http://host.example").errors("lab/model"),
    ):
        raise error
    assert type(caught.value) is kind
    assert says in str(caught.value)
    assert SECRET not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_our_own_errors_stay_as_they_are() -> None:
    with pytest.raises(ExperimentError, match="ours"), RemoteHost("ndif").errors("lab/model"):
        raise ExperimentError("ours")


@pytest.mark.parametrize("wrong", ["a b", "a\nb", "kéy"])
def test_a_key_that_no_key_can_be_is_not_sent(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CONFIG.API, "APIKEY", wrong)
    with pytest.raises(AccessError, match="NDIF_API_KEY") as caught:
        RemoteHost("http://host.example").job(Model())
    assert wrong not in str(caught.value)


def test_a_job_ends_at_its_deadline() -> None:
    watch = RemoteHost("http://host.example", job_seconds=0.01).job(Model())["backend"].display
    watch.update(ResponseModel(id="1", status=Status.QUEUED))
    time.sleep(0.02)
    with pytest.raises(RemoteError, match=r"last status: queued.*remote_job_seconds"):
        watch.refresh()


def test_a_run_ends_at_its_deadline() -> None:
    host = find_host("http://host.example", seconds=0.01)
    watch = host.job(Model())["backend"].display
    watch.refresh()
    time.sleep(0.02)
    with pytest.raises(RemoteError, match="remote_seconds have passed"):
        watch.refresh()


def test_a_deployment_is_shown_once_and_not_on_stdout(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    watch = RemoteHost("http://host.example").job(Model())["backend"].display
    for status in (Status.PROVISIONING, Status.DEPLOYING, Status.DEPLOYING, Status.RUNNING):
        watch.update(ResponseModel(id="1", status=status))
    assert [record.getMessage() for record in caplog.records] == [
        "remote http://host.example: deploying lab/model"
    ]
    assert capsys.readouterr().out == ""


@pytest.fixture
def answers() -> dict[str, Any]:
    """Answers of the host, by path."""
    deployment = {"repo_id": "lab/model", "application_state": "RUNNING", "dtype": "bfloat16"}
    return {
        "/whoami": {"email": None},
        "/status": {"deployments": {"a": deployment}},
        "/env": {"packages": {"nnsight": "0.8.0", "torch": "2.13.0", "transformers": "5.23.0"}},
    }


@pytest.fixture
def url(answers: dict[str, Any]) -> Iterator[str]:
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = answers.get(self.path)
            body = json.dumps(found).encode()
            self.send_response(404 if found is None else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_host_says_what_it_has(url: str) -> None:
    facts = RemoteHost(url).facts("lab/model")
    assert (facts["state"], facts["dtype"]) == ("running", "bfloat16")
    assert facts["versions"]["nnsight"] == "0.8.0"
    absent = RemoteHost(url).facts("lab/other")
    assert (absent["state"], absent["dtype"]) == ("not deployed", None)


@pytest.mark.parametrize("level", ["COLD", "WARM"])
def test_a_model_that_a_host_keeps_is_not_deployed(
    level: str, url: str, answers: dict[str, Any]
) -> None:
    # As ndif 0.1.2 lists what it has downloaded, and what it has moved off its device.
    answers["/status"]["deployments"] = {"a": {"repo_id": "lab/model", "deployment_level": level}}
    facts = RemoteHost(url).facts("lab/model")
    assert (facts["state"], facts["dtype"]) == ("not deployed", None)


def test_an_older_host_has_no_versions(url: str, answers: dict[str, Any]) -> None:
    del answers["/env"], answers["/whoami"]
    facts = RemoteHost(url).facts("lab/model")
    assert facts["state"] == "running"
    assert facts["versions"]["torch"] is None


@pytest.mark.parametrize("answer", [None, {"deployments": [1]}, "no"])
def test_another_server_is_no_ndif_host(url: str, answers: dict[str, Any], answer: Any) -> None:
    answers["/status"] = answer
    with pytest.raises(RemoteError, match="its status") as caught:
        RemoteHost(url).facts("lab/model")
    assert "\n" not in str(caught.value)
