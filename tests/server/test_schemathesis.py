"""Requests made up from the OpenAPI description: none breaks the server, none hangs."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote, urlencode

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.core import NotSet

from statebridge_server.api.app import openapi_text
from statebridge_server.store.database import Database
from statebridge_server.store.keys import create_key
from tests.server.conftest import tiny_experiment
from tests.server.running_server import RunningServer

PATIENCE = 60.0
"""Seconds for one answer; none of these does any work."""

ROW = {"id": "a", "context": "Bob works in Oslo.", "question": "Where?", "answer": "Oslo"}
schema = schemathesis.openapi.from_dict(json.loads(openapi_text()))


@schemathesis.serializer("application/jsonl")
def as_lines(_context: Any, value: Any) -> bytes:
    """Rows as bytes."""
    return content_of(value) or b""


@pytest.fixture(scope="module")
def clients(paused_server: RunningServer) -> Any:
    """Clients with a key that submits, and with one that may do everything."""
    database = Database(paused_server.database_url)
    tokens = [create_key(database, role, role)[0] for role in ("submit", "admin")]
    database.close()
    opened = [paused_server.client(token) for token in tokens]
    yield opened
    for client in opened:
        client.close()


@pytest.fixture(scope="module")
def names(clients: list[httpx.Client]) -> dict[str, str]:
    """Names of things that are there; a cancelled experiment, so that its stream ends."""
    submitted = clients[0].post("/v1/experiments", json=tiny_experiment()).raise_for_status().json()
    clients[0].post(f"/v1/experiments/{submitted['id']}/cancel").raise_for_status()
    uploaded = clients[0].post("/v1/datasets", content=json.dumps(ROW)).raise_for_status().json()
    text = clients[0].post("/v1/corpora", content=json.dumps(ROW)).raise_for_status().json()
    assert text["sha256"] == uploaded["sha256"]  # the same bytes are both
    return {"experiment_id": submitted["id"], "sha256": uploaded["sha256"]}


def send(client: httpx.Client, case: Any, known: dict[str, str]) -> httpx.Response:
    """Send a made-up request; where a name is known, about a thing that is there."""
    path = {key: str(known.get(key, value)) for key, value in case.path_parameters.items()}
    target = case.path
    for key, value in path.items():
        target = target.replace(f"{{{key}}}", quote(value, safe="%", errors="surrogatepass"))
    query = urlencode(dict(case.query or {}), doseq=True, errors="surrogatepass")
    headers = [
        # Who asks is the client's own business.
        (str(name).encode("latin-1"), str(value).encode("latin-1", "replace"))
        for name, value in dict(case.headers or {}).items()
        if str(name).lower() not in ("authorization", "content-length", "host", "user-agent")
    ]
    request = client.build_request(
        case.method,
        f"{target}?{query}" if query else target,
        headers=headers,
        content=content_of(case.body),
        timeout=PATIENCE,
    )
    answer = client.send(request, stream=True)
    if answer.headers.get("content-type", "").startswith("text/event-stream"):
        answer.close()  # of a queued experiment it has no end
    else:
        answer.read()
    return answer


def content_of(body: Any) -> bytes | None:
    """The body as bytes; None where there is none."""
    if isinstance(body, NotSet):
        return None
    if isinstance(body, bytes):
        return body
    if isinstance(body, str):
        return body.encode("utf-8", "surrogatepass")
    content = getattr(body, "data", body)
    return content if isinstance(content, bytes) else json.dumps(body).encode()


def assert_answered(case: Any, answer: httpx.Response) -> None:
    """Refused as problem details, or done; and no fault of the server's."""
    text = answer.text if answer.is_stream_consumed else ""
    what = (case.method, answer.url, answer.status_code, text[:300])
    not_ready = case.path == "/readyz" and answer.status_code == 503  # its worker is held
    assert answer.status_code < 500 or not_ready, what
    assert "Traceback" not in text, what
    if answer.status_code >= 400 and not not_ready:
        assert answer.headers["content-type"] == "application/problem+json", what
        assert answer.json()["status"] == answer.status_code, what


@pytest.mark.slow
@schema.parametrize()
@settings(
    max_examples=15,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_every_operation(
    case: schemathesis.Case, clients: list[httpx.Client], names: dict[str, str]
) -> None:
    for client in clients:
        assert_answered(case, send(client, case, {}))
        if case.method != "DELETE" and case.path_parameters.keys() & names.keys():
            assert_answered(case, send(client, case, names))
    assert clients[0].get("/healthz").status_code == 200
