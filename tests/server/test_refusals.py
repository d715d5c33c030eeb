"""Refusals of wrong, too large and hostile requests, always as problem details."""

from __future__ import annotations

import hashlib
import json
import socket
from typing import Any

import httpx
import pytest

from tests.server.conftest import tiny_experiment
from tests.server.running_server import RunningServer

ROW = {"id": "a", "context": "Bob works in Oslo.", "question": "Where?", "answer": "Oslo"}


@pytest.fixture(scope="module")
def client(paused_server: RunningServer) -> Any:
    """Nobody needs a key here: none was ever made."""
    with paused_server.client() as opened:
        yield opened


def assert_problem(answer: httpx.Response, status: int, expected: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == status
    assert body["request_id"] == answer.headers["x-request-id"]
    assert expected in body["detail"], body["detail"]
    assert "Traceback" not in answer.text


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"dataset": {"path": "/etc/passwd"}}, "reads no paths"),
        ({"dataset": {"path": "../x", "sha256": "0" * 64}}, "reads no paths"),
        ({"dataset": {"path": "hf://owner/name", "split": "train"}}, "reads no paths"),
        (
            {"dataset": {"generate": {"rows": 2}, "revision": "main"}},
            "that of a data set of the hub",
        ),
        (
            {
                "translators": {
                    "fit": {
                        "corpus": {"generate": {"rows": 9}},
                        "causal": {"rows": {"path": "hf://owner/name"}},
                    }
                }
            },
            "fit.causal.rows.path: a server reads no paths",
        ),
        ({"dataset": {"sha256": "0" * 64}}, "uploaded no dataset"),
        ({"dataset": {"sha256": "../../etc/passwd"}}, "64 lower-case hex"),
        ({"dataset": "x"}, "dataset: give"),
        ({"dataset": {"generate": {"rows": 51}}}, "limit of 50"),
        ({"dataset": {"generate": {"rows": 1e400}}}, "no 64-bit float"),
        ({"translators": {"42": "/etc/passwd"}}, "no translator of that id"),
        ({"translators": {"42": "../x.pt", "123": "y"}}, "no translator of that id"),
        ({"translators": {"42": "\ud800"}}, "no translator of that id"),
        ({"translators": {"42": "\u0000"}}, "no translator of that id"),
        ({"translators": {"fit": {"corpus": {"path": "/etc/passwd"}}}}, "reads no paths"),
        ({"translators": {"corpus": {"path": "/etc/passwd"}}}, "reads no paths"),
        ({"translators": 7}, "translators: give"),
        ({"sender": {"model": "/srv/models/x", "layer": 1}}, "not a pair of this server"),
        ({"sender": {"model": "receiver", "layer": 1}}, "not a pair of this server"),
        ({"sender": {"model": "sender", "layer": 1, "revision": "x"}}, "not a pair"),
        ({"remote": "http://127.0.0.1:1"}, "remote: leave it out"),
        (
            {"sender": {"model": "sender", "layer": 1, "remote": "http://127.0.0.1:1"}},
            "sender.remote: leave it out",
        ),
        (
            {"sweep": {"sender_layers": [0, 1], "pairs": "same"}},
            "layer_search: a server runs one pair",
        ),
        (
            {"layer_search": {"sender_layers": [0, 1], "pairs": "same"}},
            "layer_search: a server runs one pair",
        ),
        (
            {"sender": {"model": "sender", "layer": 1, "adapter": "./x"}},
            "sender.adapter: leave it out; the operator chooses its adapters",
        ),
        (
            {"sender": {"model": "sender", "layer": 1, "weights": {"bits": 4}}},
            "sender.weights: leave it out; the operator chooses its weights",
        ),
        ({"execution": {"device": "cuda"}}, "operator chooses"),
        ({"execution": {"sender_device": "cpu"}}, "sender_device: leave it out"),
        ({"execution": {"device_map": {"": "cpu"}}}, "execution.device_map: leave it out"),
        (
            {
                "conditions": [
                    {"name": "steered", "source": "file", "state_file": {"path": "/etc/hostname"}}
                ]
            },
            "conditions: source file goes with runs on one's own machine; a server reads no paths",
        ),
        ({"execution": {"max_lanes": 10**9}}, "limit of 4096"),
        ({"dtype": "float64"}, "served in float32"),
        ({"decoding": {"max_new_tokens": 101}}, "limit of 100"),
        ({"prompts": {"task": "{question}" + "x" * 2000}}, "characters of a prompt"),
        ({"prompts": {"task": "{question}" * 9}}, "placeholders"),
        ({"seeds": list(range(30))}, "rows times cells"),
        ({"surprise": 1}, "unknown field"),
        ({"name": "a\u0000b"}, "printable characters"),
        ({"name": "\ud800"}, "half of a surrogate pair"),
        ({"conditions": ["replase"]}, "replace"),
    ],
)
def test_an_experiment_that_is_wrong(
    client: httpx.Client, paused_server: RunningServer, change: dict[str, Any], expected: str
) -> None:
    content = json.dumps(tiny_experiment(rows=40) | change).replace("Infinity", "1e400")
    answer = client.post("/v1/experiments", content=content)
    assert_problem(answer, 400 if "1e400" in content else 422, expected)
    assert str(paused_server.data) not in answer.text


@pytest.mark.parametrize(
    ("content", "status", "expected"),
    [
        (b"", 400, "not JSON"),
        (b"{", 400, "not JSON"),
        (b'{"name": NaN}', 400, "NaN"),
        (b'{"name": "a", "name": "b"}', 400, "given twice"),
        (b"[" * 15_000, 400, "nested too deeply"),
        (b"\xff\xfe", 400, "UTF-8"),
        (b"1" * 5000, 400, "digits"),
        (b"[]", 422, "one JSON object"),
        (b" " * 20_001, 413, "20000 bytes at most"),
        (b'{"name": "\\ud800"}', 422, "dataset: give"),
    ],
)
def test_a_body_that_is_no_experiment(
    client: httpx.Client, content: bytes, status: int, expected: str
) -> None:
    assert_problem(client.post("/v1/experiments", content=content), status, expected)


def test_a_body_without_a_declared_length_is_cut_off(client: httpx.Client) -> None:
    answer = client.post("/v1/experiments", content=(b" " * 1000 for _ in range(30)))
    assert_problem(answer, 413, "at most")


def test_a_coded_body_is_refused(client: httpx.Client) -> None:
    headers = {"content-encoding": "gzip"}
    assert_problem(client.post("/v1/datasets", content=b"x", headers=headers), 415, "as it is")


@pytest.mark.parametrize(
    ("lines", "status", "expected"),
    [
        ([], 422, "no row"),
        (["{"], 422, "upload, line 1"),
        ([json.dumps(ROW), json.dumps(ROW)], 422, "already given"),
        ([json.dumps(ROW | {"answer": 3})], 422, "must be text"),
        ([json.dumps({"context": "x"})], 422, "question"),
        ([json.dumps(ROW | {"context": "x" * 3000})], 422, "more than 2000 characters"),
        ([json.dumps(ROW | {"id": str(i)}) for i in range(51)], 422, "more than 50 rows"),
        (["x" * 20_001], 413, "20000 bytes"),
        ([json.dumps(ROW | {"note": float("nan")})], 422, "NaN"),
    ],
)
def test_a_dataset_that_is_wrong(
    client: httpx.Client, paused_server: RunningServer, lines: list[str], status: int, expected: str
) -> None:
    answer = client.post("/v1/datasets", content="\n".join(lines).encode())
    assert_problem(answer, status, expected)
    assert not list((paused_server.data / "incoming").iterdir())
    assert not list((paused_server.data / "datasets").iterdir())
    assert client.get("/v1/datasets").json() == {"datasets": []}


def test_a_dataset_with_another_hash_than_declared(
    client: httpx.Client, paused_server: RunningServer
) -> None:
    sent = json.dumps(ROW).encode()
    answer = client.post("/v1/datasets", content=sent, params={"sha256": "0" * 64})
    assert_problem(answer, 422, f"not the declared {'0' * 64}")
    assert not list((paused_server.data / "datasets").iterdir())
    sha256 = hashlib.sha256(sent).hexdigest()
    made = client.post("/v1/datasets", content=sent, params={"sha256": sha256})
    assert (made.status_code, made.json()["sha256"]) == (201, sha256)
    assert client.delete(f"/v1/datasets/{sha256}").status_code == 204


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "safetensors"),
        (b"PK\x03\x04" + b"x" * 100, "pickle"),
        (b"\x80\x02}q\x00.", "pickle"),
        (b"\x02\x00\x00\x00\x00\x00\x00\x00{}", "not a translator"),
        (b"\xff" * 7 + b"\x7f{}", "safetensors"),
    ],
)
def test_a_translator_that_is_none(
    client: httpx.Client, paused_server: RunningServer, content: bytes, expected: str
) -> None:
    assert_problem(client.post("/v1/translators", content=content), 422, expected)
    assert not list((paused_server.data / "incoming").iterdir())
    assert not list((paused_server.data / "translators").iterdir())


@pytest.mark.parametrize(
    "hostile",
    [
        "exp_00000000000000000000",
        "..%2F..%2Fetc%2Fpasswd",
        "%00",
        "a" * 60,
        "exp_'%20OR%201=1--",
        "%F0%9F%98%80",
        "%ED%A0%80",
    ],
)
@pytest.mark.parametrize("part", ["", "/rows", "/summary", "/report", "/export", "/events"])
def test_ids_that_name_nothing(client: httpx.Client, hostile: str, part: str) -> None:
    answer = client.get(f"/v1/experiments/{hostile}{part}")
    assert answer.status_code == 404, answer.text
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("kind", ["datasets", "corpora"])
def test_a_hash_that_is_cut_short_is_told_so(client: httpx.Client, kind: str) -> None:
    answer = client.get(f"/v1/{kind}/{'0' * 63}")
    assert_problem(answer, 422, "path.sha256: give the 64 lower-case hex digits of a SHA-256")


def test_ids_of_other_things_that_name_nothing(client: httpx.Client) -> None:
    for path in ("translators/..%2F..%2Fx/file", "translators/tr_1/card", "translators/%00"):
        assert client.get(f"/v1/{path}").status_code == 404
    assert_problem(client.get("/v1/datasets/abc"), 422, "sha256")
    assert_problem(client.get(f"/v1/datasets/{'0' * 64}"), 404, "no such dataset")
    assert_problem(client.get("/v1/corpora/abc"), 422, "sha256")
    assert_problem(client.get(f"/v1/corpora/{'0' * 64}"), 404, "no such corpus")
    assert_problem(client.get(f"/v1/experiments/{'x' * 65}"), 422, "at most 64")


def test_unknown_routes_and_methods(client: httpx.Client) -> None:
    assert_problem(client.get("/v2"), 404, "Not Found")
    answer = client.put("/v1/experiments")
    assert_problem(answer, 405, "Method Not Allowed")
    assert answer.headers["allow"]


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=201", "limit=x", "state=odd", f"limit={10**30}"],
)
def test_parameters_that_are_wrong(client: httpx.Client, query: str) -> None:
    assert_problem(client.get(f"/v1/experiments?{query}"), 422, "query.")


def test_the_queue_is_bounded_and_an_idempotency_key_queues_once(
    client: httpx.Client, paused_server: RunningServer
) -> None:
    experiment = tiny_experiment()
    headers = {"Idempotency-Key": "one"}
    first = client.post("/v1/experiments", json=experiment, headers=headers)
    assert first.status_code == 201
    again = client.post("/v1/experiments", json=experiment, headers=headers)
    assert (again.status_code, again.json()["id"]) == (200, first.json()["id"])
    assert again.headers["idempotency-replayed"] == "true"
    other = client.post("/v1/experiments", json=tiny_experiment(rows=7), headers=headers)
    assert_problem(other, 422, first.json()["id"])
    for _ in range(4):
        assert client.post("/v1/experiments", json=experiment).status_code == 201
    full = client.post("/v1/experiments", json=experiment)
    assert_problem(full, 429, "this key has 5")
    assert int(full.headers["retry-after"]) > 0

    listed = client.get("/v1/experiments", params={"limit": 3}).json()
    more = client.get("/v1/experiments", params={"before": listed["next_before"]}).json()
    ids = [view["id"] for view in listed["experiments"] + more["experiments"]]
    assert len(set(ids)) == 5
    assert ids[-1] == first.json()["id"]
    assert more["next_before"] is None

    assert_problem(client.get(f"/v1/experiments/{ids[0]}/summary"), 409, "queued")
    assert client.get(f"/v1/experiments/{ids[0]}/rows").content == b""
    assert_problem(client.delete(f"/v1/experiments/{ids[0]}"), 409, "cancel it first")
    assert_problem(client.post(f"/v1/experiments/{ids[0]}/resume"), 409, "queued")
    for experiment_id in ids:
        cancelled = client.post(f"/v1/experiments/{experiment_id}/cancel").json()
        assert cancelled["state"] == "cancelled"
        assert client.post(f"/v1/experiments/{experiment_id}/cancel").status_code == 409
        assert client.delete(f"/v1/experiments/{experiment_id}").status_code == 204
        assert client.get(f"/v1/experiments/{experiment_id}").status_code == 404


def test_a_dataset_in_use_stays(client: httpx.Client, paused_server: RunningServer) -> None:
    uploaded = client.post(
        "/v1/datasets",
        content=json.dumps({"k": "a", "c": "Bob.", "q": "Who?", "a": "Bob"}).encode(),
        params={"id": "k", "context": "c", "question": "q", "answer": "a"},
    ).json()
    sha256 = uploaded["sha256"]
    experiment = tiny_experiment(dataset={"sha256": sha256})
    wrong = client.post(
        "/v1/experiments", json=experiment | {"dataset": {"sha256": sha256, "fields": {"id": "z"}}}
    )
    assert_problem(wrong, 422, "dataset.fields")
    submitted = client.post("/v1/experiments", json=experiment).json()
    assert submitted["experiment"]["dataset"]["fields"]["context"] == "c"
    assert "path" not in submitted["experiment"]["dataset"]
    assert_problem(client.delete(f"/v1/datasets/{sha256}"), 409, submitted["id"])
    client.post(f"/v1/experiments/{submitted['id']}/cancel")
    assert client.delete(f"/v1/datasets/{sha256}").status_code == 204
    assert not list((paused_server.data / "datasets").iterdir())


def test_a_foreign_web_page_is_refused_without_keys(client: httpx.Client) -> None:
    assert_problem(client.get("/v1/pairs", headers={"Host": "evil.example"}), 403, "localhost only")
    assert_problem(
        client.get("/v1/pairs", headers={"Origin": "https://evil.example"}), 403, "other site"
    )
    own = client.get("/v1/pairs", headers={"Origin": "http://localhost:3000"})
    assert own.status_code == 200


@pytest.mark.parametrize(
    "host", ["[", "]", "[::1", "a:b:c", "evil_x.example", "127.0.0.1:99999999", "", "\xff", "@"]
)
def test_a_host_header_that_is_none(paused_server: RunningServer, host: str) -> None:
    with socket.create_connection(("127.0.0.1", paused_server.port), timeout=60) as raw:
        lines = ("GET /v1/pairs HTTP/1.1", f"Host: {host}", "Connection: close", "", "")
        raw.sendall("\r\n".join(lines).encode("latin-1"))
        answer = b"".join(iter(lambda: raw.recv(65536), b""))
    status = int(answer.split()[1])
    # A loopback name with an odd port is still this machine's.
    assert status in ((200, 400, 403) if host.startswith("127") else (400, 403)), answer


@pytest.mark.parametrize(
    "path",
    [
        "/v1/experiments?before=%00",
        "/v1/experiments?before=%ED%A0%80",
        f"/v1/experiments/x/rows?seed={10**40}&row_id=%00&after=5",
        f"/v1/experiments/x/rows?after={10**40}",
        "/v1/experiments/x/comparison?metric=%00&by=%00",
        "//v1//experiments",
        "/v1/experiments/../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/v1/translators/%2e%2e%2f%2e%2e/file",
    ],
)
def test_odd_urls(client: httpx.Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code in (404, 422)
    assert answer.headers["content-type"] == "application/problem+json"


def test_score(client: httpx.Client) -> None:
    sent = {
        "predictions": [
            {"row_id": "a", "gold": "Oslo", "prediction": "It is Oslo."},
            {"row_id": "b", "gold": "Oslo", "prediction": "Lima"},
            {"row_id": "c", "gold": "Oslo", "prediction": None},
        ]
    }
    scores = client.post("/v1/score", json=sent).json()
    (condition,) = scores["conditions"]
    assert condition["means"]["word_boundary_contains"]["mean"] == 0.5
    assert condition["missing_predictions"] == 1
    assert [row["scores"]["word_boundary_contains"] for row in scores["rows"]] == [
        True,
        False,
        None,
    ]
    twice = {"predictions": [sent["predictions"][0]] * 2}
    assert client.post("/v1/score", json=twice).status_code == 422
    assert_problem(client.post("/v1/score", json={"predictions": []}), 422, "predictions")
    wrong = {"predictions": [{"row_id": "a", "gold": 1, "prediction": "x"}]}
    assert_problem(client.post("/v1/score", json=wrong), 422, "predictions.0.gold")


def test_health_is_open_and_says_what_is_missing(client: httpx.Client) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}
    ready = client.get("/readyz")
    assert ready.status_code == 503
    assert ready.json()["worker"] == "absent"
    assert client.get("/docs").status_code == 200
    metrics = client.get("/metrics").text
    assert 'statebridge_jobs{state="queued"} 0.0' in metrics
    assert 'route="/healthz"' in metrics
