"""Keys: who gets in, what each role may do, and that nobody sees another one's work."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from collections.abc import Iterator

import httpx
import pytest

from statebridge_server.store.database import Database
from statebridge_server.store.keys import (
    Principal,
    authenticate,
    claimed_id,
    create_key,
    find_key,
    list_keys,
    revoke_key,
)
from tests.server.conftest import tiny_experiment
from tests.server.running_server import RunningServer

ROW = {"id": "a", "context": "Bob works in Oslo.", "question": "Where?", "answer": "Oslo"}


@pytest.fixture(scope="module")
def tokens(paused_server: RunningServer) -> dict[str, str]:
    """A key of each role, and a second one that submits."""
    roles = {"ann": "submit", "ben": "submit", "eve": "read", "root": "admin"}
    database = Database(paused_server.database_url)
    made = {name: create_key(database, name, role)[0] for name, role in roles.items()}
    database.close()
    return made


@pytest.fixture(scope="module")
def people(
    paused_server: RunningServer, tokens: dict[str, str]
) -> Iterator[dict[str, httpx.Client]]:
    """A client for each key."""
    clients = {name: paused_server.client(token) for name, token in tokens.items()}
    yield clients
    for client in clients.values():
        client.close()


ROUTES = (
    ("GET", "/v1/experiments"),
    ("POST", "/v1/experiments"),
    ("POST", "/v1/doctor"),
    ("GET", "/v1/experiments/x"),
    ("GET", "/v1/experiments/x/rows"),
    ("GET", "/v1/experiments/x/files/manifest.json"),
    ("GET", "/v1/experiments/x/events"),
    ("GET", "/v1/experiments/x/summary"),
    ("GET", "/v1/experiments/x/comparison"),
    ("GET", "/v1/experiments/x/report"),
    ("GET", "/v1/experiments/x/export"),
    ("POST", "/v1/experiments/x/cancel"),
    ("POST", "/v1/experiments/x/resume"),
    ("DELETE", "/v1/experiments/x"),
    ("GET", "/v1/datasets"),
    ("POST", "/v1/datasets"),
    ("GET", f"/v1/datasets/{'0' * 64}"),
    ("DELETE", f"/v1/datasets/{'0' * 64}"),
    ("GET", "/v1/corpora"),
    ("POST", "/v1/corpora"),
    ("GET", f"/v1/corpora/{'0' * 64}"),
    ("DELETE", f"/v1/corpora/{'0' * 64}"),
    ("GET", "/v1/translators"),
    ("POST", "/v1/translators"),
    ("GET", "/v1/translators/x"),
    ("GET", "/v1/translators/x/card"),
    ("GET", "/v1/translators/x/file"),
    ("DELETE", "/v1/translators/x"),
    ("GET", "/v1/pairs"),
    ("POST", "/v1/score"),
    ("GET", "/metrics"),
)


def test_every_route_but_health_needs_a_key(
    paused_server: RunningServer, tokens: dict[str, str]
) -> None:
    described = httpx.get(paused_server.url + "/openapi.json").json()["paths"]
    operations = sum(len(methods) for methods in described.values())
    assert operations == len(ROUTES) + 2  # /healthz and /readyz
    wrong = tokens["ann"][:-1] + ("A" if tokens["ann"][-1] != "A" else "B")
    other_id = "sb_000000000000_" + tokens["ann"].split("_", 2)[2]
    headers = [{}, *({"Authorization": f"Bearer {t}"} for t in ("x", wrong, other_id))]
    headers.append({"Authorization": f"Basic {tokens['ann']}"})
    with paused_server.client() as client:
        for method, path in ROUTES:
            for sent in headers:
                answer = client.request(method, path, headers=sent)
                assert answer.status_code == 401, (method, path, sent)
                assert answer.headers["www-authenticate"] == "Bearer"
        assert client.get("/healthz").status_code == 200
        assert client.get("/readyz").status_code == 503


def test_roles(people: dict[str, httpx.Client]) -> None:
    for method, path in ROUTES:
        answer = people["eve"].request(method, path)
        reads = method == "GET" or path == "/v1/score"
        assert (answer.status_code == 403) == (not reads), (method, path, answer.text)
    assert people["eve"].get("/metrics").status_code == 200


def test_nobody_sees_what_is_another_ones(
    people: dict[str, httpx.Client], paused_server: RunningServer
) -> None:
    ann, ben, eve, root = (people[name] for name in ("ann", "ben", "eve", "root"))
    own = ann.post("/v1/experiments", json=tiny_experiment()).json()["id"]
    shared = ann.post("/v1/experiments", json=tiny_experiment(), params={"shared": True})
    shared_id = shared.json()["id"]
    sent = json.dumps(ROW).encode()  # rows are text as well
    sha256 = ann.post("/v1/datasets", content=sent).json()["sha256"]
    assert ann.post("/v1/corpora", content=sent).json()["sha256"] == sha256

    for client in (ben, eve):
        for part in ("", "/rows", "/summary", "/events", "/report", "/comparison", "/export"):
            assert client.get(f"/v1/experiments/{own}{part}").status_code == 404
        listed = client.get("/v1/experiments").json()["experiments"]
        assert [view["id"] for view in listed] == [shared_id]
        assert not listed[0]["mine"]
        for kind in ("datasets", "corpora"):
            assert client.get(f"/v1/{kind}/{sha256}").status_code == 404
            assert client.get(f"/v1/{kind}").json() == {kind: []}
    for action in ("cancel", "resume"):
        assert ben.post(f"/v1/experiments/{own}/{action}").status_code == 404
        assert ben.post(f"/v1/experiments/{shared_id}/{action}").status_code == 403
    assert ben.delete(f"/v1/experiments/{own}").status_code == 404
    assert ben.delete(f"/v1/experiments/{shared_id}").status_code == 403
    # To know a hash is not to hold the rows.
    fit = {"fit": {"kind": "ridge", "corpus": {"sha256": sha256}}}
    for borrowed in ({"dataset": {"sha256": sha256}}, {"translators": fit}):
        answer = ben.post("/v1/experiments", json=tiny_experiment(**borrowed))
        assert answer.status_code == 422
        assert "this key has uploaded no" in answer.json()["detail"]
    for kind in ("datasets", "corpora"):
        assert ben.delete(f"/v1/{kind}/{sha256}").status_code == 404
        # The same bytes sent by another key are one file, which stays while either holds it.
        assert ben.post(f"/v1/{kind}", content=sent).status_code == 201
        assert ann.delete(f"/v1/{kind}/{sha256}").status_code == 204
        assert ann.get(f"/v1/{kind}/{sha256}").status_code == 404
        assert ben.get(f"/v1/{kind}/{sha256}").status_code == 200
        assert len(list((paused_server.data / kind).iterdir())) == 1

    assert {v["id"] for v in root.get("/v1/experiments").json()["experiments"]} == {own, shared_id}
    assert root.post(f"/v1/experiments/{own}/cancel").status_code == 200
    assert ann.post(f"/v1/experiments/{shared_id}/cancel").status_code == 200


def test_an_idempotency_key_is_the_owners_own(people: dict[str, httpx.Client]) -> None:
    headers = {"Idempotency-Key": "the same"}
    ids = {
        people[name].post("/v1/experiments", json=tiny_experiment(), headers=headers).json()["id"]
        for name in ("ann", "ben")
    }
    assert len(ids) == 2


def test_a_revoked_key_is_refused_by_the_running_server(paused_server: RunningServer) -> None:
    token = paused_server.key("submit", "gone")
    key_id = token.split("_")[1]
    with paused_server.client(token) as client:
        assert client.get("/v1/pairs").status_code == 200
        words = ("keys", "revoke", key_id, "--config", str(paused_server.config))
        subprocess.run(
            paused_server.command(*words), env=paused_server.environment, check=True, timeout=120
        )
        assert client.get("/v1/pairs").status_code == 401


def test_no_token_is_stored_or_logged(paused_server: RunningServer, tokens: dict[str, str]) -> None:
    secrets = [token.split("_", 2)[2].encode() for token in tokens.values()]
    for path in [*paused_server.data.rglob("*"), paused_server.log]:
        if path.is_file():
            content = path.read_bytes()
            assert not any(secret in content for secret in secrets), path
    with sqlite3.connect(paused_server.data / "statebridge.sqlite") as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    database.close()


def test_the_log_holds_no_prompt(
    paused_server: RunningServer, people: dict[str, httpx.Client]
) -> None:
    row = ROW | {"context": "Zanzibarium lies in Oslo.", "id": "zz"}
    people["ann"].post("/v1/datasets", content=json.dumps(row).encode())
    people["ann"].post("/v1/datasets", content=json.dumps(row | {"answer": "", "a": "Xyzzy"}))
    people["ann"].post(
        "/v1/corpora",
        content="Zanzibarium is a city.\nXyzzy\ud800".encode("utf-8", "surrogatepass"),
    )
    people["ann"].post("/v1/corpora", content=b"Zanzibarium is a city.\nXyzzy.")
    answer = people["ann"].get("/v1/pairs", headers={"X-Request-Id": "look-for-me"})
    assert answer.headers["x-request-id"] == "look-for-me"
    forged = people["ann"].get("/v1/pairs", headers={"X-Request-Id": 'x"} {"level": "error'})
    assert forged.headers["x-request-id"].isalnum()
    lines = [json.loads(line) for line in paused_server.log.read_text().splitlines()]
    (own,) = [line for line in lines if line.get("request_id") == "look-for-me"]
    assert own["path"] == "/v1/pairs"
    assert own["status"] == 200
    assert own["key"]
    text = paused_server.log.read_text()
    assert "Zanzibarium" not in text
    assert "Xyzzy" not in text


def holder(database: Database, token: str) -> Principal | None:
    """Return the principal of a token, as a request finds it."""
    key_id = claimed_id(token)
    return authenticate(None if key_id is None else find_key(database, key_id), token)


@pytest.mark.slow
def test_the_store_of_keys(database: Database) -> None:
    token, key = create_key(database, "Ann", "submit")
    found = holder(database, token)
    assert found is not None
    assert (found.key_id, found.role) == (key.id, "submit")
    assert token not in (key.token_sha256, key.id)
    for wrong in (
        "",
        token[:-1],
        token + "a",
        token.swapcase(),
        f"sb_{key.id}_{'a' * 43}",
        "\ud800",
    ):
        assert holder(database, wrong) is None
    revoke_key(database, key.id)
    assert holder(database, token) is None
    assert [listed.id for listed in list_keys(database)] == [key.id]
