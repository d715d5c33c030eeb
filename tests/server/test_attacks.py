"""Hostile requests: each is refused, and the server still runs afterwards."""

from __future__ import annotations

import gzip
import json
import socket
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from statebridge_server.api.requests import MAX_HEAD_BYTES
from tests.server.conftest import tiny_experiment
from tests.server.running_server import RunningServer, ended, submit
from tests.server.test_jobs import LONG
from tests.server.test_refusals import ROW, assert_problem


@pytest.fixture(scope="module")
def client(paused_server: RunningServer) -> Iterator[httpx.Client]:
    """Nobody needs a key here: none was ever made."""
    with paused_server.client() as opened:
        yield opened


@pytest.fixture(autouse=True)
def _still_stands(paused_server: RunningServer) -> Iterator[None]:
    """After each attack the same process answers, and no file of the attack is left."""
    assert paused_server.process is not None
    pid = paused_server.process.pid
    yield
    assert paused_server.answers("/healthz")
    assert paused_server.process.pid == pid
    assert not list((paused_server.data / "incoming").iterdir())
    assert '"request failed"' not in paused_server.log.read_text()


def exchange(server: RunningServer, sent: bytes) -> bytes:
    """Send bytes as they are; return everything received until the server closes."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as raw:
        received = b""
        try:
            raw.sendall(sent)
            while part := raw.recv(65_536):
                received += part
        except (BrokenPipeError, ConnectionResetError):
            pass  # closed by the server, which reads no further
        return received


def head(server: RunningServer, line: str, *headers: str) -> bytes:
    lines = (line, f"Host: 127.0.0.1:{server.port}", "Connection: close", *headers, "", "")
    return "\r\n".join(lines).encode("latin-1")


NO_HTTP = b"Invalid HTTP request received."
"""The body of uvicorn's own refusal."""

TRAVERSALS = (
    "..%2f..%2f..%2fetc%2fpasswd",
    "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "....%2f%2f....%2f%2fetc%2fpasswd",
    "..%5c..%5cetc%5cpasswd",
    "%252e%252e%252fetc%252fpasswd",
    "%c0%ae%c0%ae%c0%afetc%c0%afpasswd",
    "%2fetc%2fpasswd",
    "file:%2f%2f%2fetc%2fpasswd",
    "exp_0%00.jsonl",
    "~root",
    "statebridge.sqlite",
)
PLACES = (
    "experiments/{}",
    "experiments/{}/rows",
    "experiments/{}/files/manifest.json",
    "experiments/x/files/{}",
    "translators/{}",
    "translators/{}/file",
    "translators/{}/card",
    "datasets/{}",
    "corpora/{}",
)


@pytest.mark.parametrize("place", PLACES)
def test_a_path_instead_of_a_name_is_refused(paused_server: RunningServer, place: str) -> None:
    for hostile in TRAVERSALS:
        for method in ("GET", "DELETE"):
            path = f"/v1/{place.format(hostile)}"
            answer = exchange(paused_server, head(paused_server, f"{method} {path} HTTP/1.1"))
            assert int(answer.split()[1]) in (404, 405, 422), (path, answer)
            assert b"application/problem+json" in answer
            assert b"root:" not in answer
            assert b"SQLite format" not in answer


@pytest.mark.parametrize(
    "change",
    [
        {"name": "../../etc/passwd\0"},
        {"dataset": {"sha256": "../" * 20 + "etc/passwd"}},
        {"dataset": {"generate": {"rows": 5, "path": "/etc/passwd"}}},
        {"dataset": {"generate": {"rows": 5}, "path": "/etc/passwd"}},
        {"translators": {"sets": {"a": {"42": "/etc/passwd", "123": "../x"}}}},
        {"translators": {"sets": {"../a": {"fit": {"corpus": {"path": "/etc/passwd"}}}}}},
        {"translators": {"fit": {"corpus": {"sha256": "../" * 20 + "etc/passwd"}}}},
        {"translators": {"fit": {"corpus": {"sha256": "0" * 64, "path": "/etc/passwd"}}}},
        {"translators": {"fit": {"corpus": {"generate": {"rows": 5}, "path": "/etc/passwd"}}}},
        {"translators": {"42": "tr_00000000000000000000", "123": "..\\x"}},
        {"sender": {"model": "sender", "layer": 1, "trust_remote_code": True}},
        {"sender": {"model": "file:///etc/passwd", "layer": 1}},
        {"sender": {"model": ["sender"], "layer": 1}},
        {"seeds": [10**40]},
        {"seeds": [-1]},
        {"seeds": []},
        {"limit": 0},
        {"decoding": {"max_new_tokens": 10**18}},
        {"decoding": {"max_new_tokens": -1}},
        {"decoding": {"max_new_tokens": 1.5}},
        {"execution": {"max_lanes": 0}},
        {"execution": {"max_lanes": 10**25}},
        {"dataset": {"generate": {"rows": 10**18}}},
        {"dataset": {"generate": {"rows": -5}}},
        {"prompts": {"task": "{question.__class__.__mro__}"}},
        {"prompts": {"task": "{question!r:>1000000000}"}},
        {"prompts": {"task": "{question:1000000000}"}},
        {"prompts": {"task": "{0}"}},
        {"conditions": ["published"] * 3000},
        {"conditions": [{"name": "x" * 100_000}]},
        {"priority": 10**9},
    ],
)
def test_a_hostile_experiment_is_refused(client: httpx.Client, change: dict[str, Any]) -> None:
    content = json.dumps(tiny_experiment(rows=5) | change)
    if len(content) > 20_000:
        assert_problem(client.post("/v1/experiments", content=content), 413, "at most")
    else:
        assert_problem(client.post("/v1/experiments", content=content), 422, "")


@pytest.mark.parametrize("route", ["/v1/experiments", "/v1/score"])
@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b'{"a":' * 3000 + b"1" + b"}" * 3000, 400),
        (b"[" * 9000 + b"]" * 9000, 400),
        (b'{"name": Infinity}', 400),
        (b'{"name": -Infinity}', 400),
        (b'{"name": 1e999}', 400),
        (b'{"name": ' + b"9" * 10_000 + b"}", 400),
        (b'{"name": "a", "n\\u0061me": "b"}', 400),
        (b'{"name": "\xed\xa0\x80"}', 400),
        (b"\xef\xbb\xbf{}", 400),
        (b"{}\0", 400),
        (b'{"__proto__": {}}', 422),
        (b"null", 422),
        (b'"x"', 422),
        (b"!!python/object/apply:os.system ['true']", 400),
        (b"&a [*a, *a]", 400),
    ],
)
def test_hostile_json_is_refused(
    client: httpx.Client, route: str, content: bytes, status: int
) -> None:
    assert_problem(client.post(route, content=content), status, "")


@pytest.mark.parametrize("route", ["experiments", "datasets", "corpora", "translators", "score"])
def test_compressed_bodies_are_not_unpacked(client: httpx.Client, route: str) -> None:
    bomb = gzip.compress(b" " * 10_000_000)
    for coding, content in (
        ("gzip", bomb),
        ("deflate", zlib.compress(b" " * 10_000_000)),
        ("gzip, gzip", gzip.compress(bomb)),
        ("GZIP", bomb),
        ("br", b"x"),
    ):
        answer = client.post(f"/v1/{route}", content=content, headers={"Content-Encoding": coding})
        assert_problem(answer, 415, "as it is")
    # Without the header these are bytes that are no JSON, no rows and no weights.
    assert client.post(f"/v1/{route}", content=bomb).status_code in (400, 422)


@pytest.mark.slow
def test_hostile_safetensors_are_refused(client: httpx.Client) -> None:
    def file(length: int, header: Any, data: bytes = b"") -> bytes:
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        return struct.pack("<Q", length or len(text)) + text + data

    tensor = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}
    hostile = [
        file(100 * 2**20, b"{}"),
        file(2**63, b"{}"),
        file(2**64 - 1, b"{}"),
        file(0, {"a": tensor | {"data_offsets": [0, 10**18]}}),
        file(0, {"a": tensor | {"data_offsets": [16, 0]}}, bytes(16)),
        file(0, {"a": tensor | {"data_offsets": [-16, 0]}}, bytes(16)),
        file(0, {"a": tensor | {"shape": [2**62, 2**62]}}, bytes(16)),
        file(0, {"a": tensor | {"shape": [10**9, 10**9, 0]}}, bytes(16)),
        file(0, {"a": tensor | {"dtype": "EVIL"}}, bytes(16)),
        file(0, {"a": tensor, "b": tensor}, bytes(16)),
        file(0, {"__metadata__": {"statebridge": "{" * 5000}, "a": tensor}, bytes(16)),
        file(0, {"__metadata__": {"statebridge": "[" * 9000}, "a": tensor}, bytes(16)),
        file(0, {"__metadata__": {"statebridge": '{"kind": "os.system"}'}, "a": tensor}, bytes(16)),
        file(0, b'{"a":' * 3000),
        file(0, b"\xff" * 64),
    ]
    for content in hostile:
        answer = client.post("/v1/translators", content=content)
        assert_problem(answer, 422, "")
        assert "/incoming/" not in answer.text


def test_no_request_is_smuggled_behind_a_proxy(paused_server: RunningServer) -> None:
    """A request that a proxy may end at another byte is refused, and no second one is seen."""
    inner = "GET /v1/smuggled HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    chunked = "Transfer-Encoding: chunked"
    upgrade = ("Connection: Upgrade", "Upgrade: h2c")
    post = "POST /v1/experiments HTTP/1.1"
    for headers, body in (
        (("Content-Length: 4", "Content-Length: 40"), "abcd" + inner),
        (("Content-Length: -1",), ""),
        (("Content-Length: 0x10",), "x" * 16),
        (("Content-Length: 1_0",), "x" * 10),
        (("Content-Length: 9" + "9" * 40,), "x"),
        (("Content-Length: 4", chunked), "0\r\n\r\n" + inner),
        (("Transfer-Encoding: chunked, identity",), inner),
        (("Transfer-Encoding: xchunked",), inner),
        (("Transfer-Encoding: identity",), inner),
        (("Transfer-Encoding: chunked;x",), "0\r\n\r\n" + inner),
        ((*upgrade, f"Content-Length: {len(inner)}"), inner),
        ((*upgrade, chunked), f"{len(inner):x}\r\n{inner}\r\n0\r\n\r\n"),
        ((chunked, chunked), "0\r\n\r\n" + inner),
        ((chunked,), "zz\r\n" + inner),
        ((chunked,), "fffffffffffffffffffff\r\n" + inner),
        (("X: a\r\n b: c",), ""),
        (("X : a",), ""),
        (("X: a\0b",), ""),
    ):
        answer = exchange(paused_server, head(paused_server, post, *headers) + body.encode())
        statuses = [int(part.split()[0]) for part in answer.split(b"HTTP/1.1 ")[1:]]
        assert all(400 <= status < 500 or status == 501 for status in statuses), (headers, answer)
        assert b"smuggled" not in answer, headers
    assert "/v1/smuggled" not in paused_server.log.read_text()


def test_malformed_and_oversized_heads_are_refused(paused_server: RunningServer) -> None:
    for sent in (
        b"\0" * 100 + b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",  # a TLS hello, its end left out
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET  /v1/pairs HTTP/1.1\r\n\r\n",
        head(paused_server, "GET http://169.254.169.254/ HTTP/1.1"),
        head(paused_server, "CONNECT example.org:443 HTTP/1.1"),
        head(paused_server, f"GET /{'a' * 2_000_000} HTTP/1.1"),
        head(paused_server, "GET /v1/pairs HTTP/1.1", f"X: {'a' * 2_000_000}"),
        head(paused_server, "GET /v1/pairs HTTP/1.1", *(f"X{i}: {i}" for i in range(200_000))),
        head(paused_server, "GET /v1/pairs HTTP/1.1", f"Authorization: Bearer {'a' * 2_000_000}"),
    ):
        if sent.startswith(b"\x16"):
            with socket.create_connection(("127.0.0.1", paused_server.port), timeout=60) as raw:
                raw.sendall(sent)
            continue
        answer = exchange(paused_server, sent)
        if answer:
            assert 400 <= int(answer.split()[1]) < 500, (sent[:60], answer[:200])


def test_heads_that_never_end_are_cut_off(paused_server: RunningServer) -> None:
    """A head, a chunk size or a trailer without an end fills no memory."""
    post = head(paused_server, "POST /v1/datasets HTTP/1.1", "Transfer-Encoding: chunked")
    kinds = {
        "line": (b"GET /", b"a"),
        "header": (b"GET /v1/pairs HTTP/1.1\r\nX: ", b"a"),
        "headers": (b"GET /v1/pairs HTTP/1.1\r\n", b"a: b\r\n"),
        "line ends": (b"", b"\r\n"),
        "chunk extension": (post + b"1;", b"a"),
        "trailers": (post + b"1\r\nx\r\n0\r\n", b"a: b\r\n"),
    }
    for kind, (begin, part) in kinds.items():
        with socket.create_connection(("127.0.0.1", paused_server.port), timeout=60) as raw:
            raw.sendall(begin)
            # More than the buffers of two sockets hold: the server has read it, or refused.
            for _ in range(300):
                try:
                    raw.sendall(part * (100_000 // len(part)))
                except (BrokenPipeError, ConnectionResetError):
                    break
            else:
                pytest.fail(f"{kind}: 30 MB were taken")


@pytest.mark.parametrize("over", [False, True])
def test_the_size_limit_of_a_head_is_exact(paused_server: RunningServer, over: bool) -> None:
    given = head(paused_server, "GET /v1/pairs HTTP/1.1")
    named = sum(len(line) + 2 for line in given.split(b"\r\n")[1:-2]) + len("/v1/pairs")
    filled = f"X: {'a' * (MAX_HEAD_BYTES - named - 5 + over)}"
    answer = exchange(paused_server, head(paused_server, "GET /v1/pairs HTTP/1.1", filled))
    assert int(answer.split()[1]) == (400 if over else 200), answer[:300]
    assert (b"over 64 KiB" in answer) == over


@pytest.mark.parametrize("hosts", [(), ("127.0.0.1", "127.0.0.1"), ("127.0.0.1", "evil.example")])
def test_a_missing_or_second_host_is_refused(
    paused_server: RunningServer, hosts: tuple[str, ...]
) -> None:
    lines = ("GET /v1/pairs HTTP/1.1", *(f"Host: {host}" for host in hosts), "", "")
    answer = exchange(paused_server, "\r\n".join(lines).encode())
    assert answer.startswith(b"HTTP/1.1 400 "), answer
    assert answer.endswith(NO_HTTP)


def test_requests_of_one_connection_are_answered_in_order(paused_server: RunningServer) -> None:
    good = head(paused_server, "GET /v1/pairs HTTP/1.1").replace(b"Connection: close\r\n", b"")
    answer = exchange(paused_server, good + b"\0" * 100)
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert answer.index(b'"pairs"') < answer.index(b"HTTP/1.1 400 Bad Request")
    assert answer.count(b"HTTP/1.1 ") == 2
    last = head(paused_server, "GET /healthz HTTP/1.1")
    answer = exchange(paused_server, good + last)
    assert answer.count(b"HTTP/1.1 200 OK") == 2, answer  # each whole, and in order
    assert answer.index(b'"pairs"') < answer.index(b'"status"')


def test_trailers_change_no_header(paused_server: RunningServer) -> None:
    post = head(paused_server, "POST /v1/score HTTP/1.1", "Transfer-Encoding: chunked")
    trailers = b"Origin: https://evil.example\r\nHost: evil.example\r\n\r\n"
    answer = exchange(paused_server, post + b"2\r\n{}\r\n0\r\n" + trailers)
    assert answer.startswith(b"HTTP/1.1 422 "), answer


def test_bytes_that_are_no_http_get_uvicorns_refusal(paused_server: RunningServer) -> None:
    for sent in (b"GET  /v1/pairs HTTP/1.1\r\n\r\n", b"\0" * 100 + b"\r\n\r\n"):
        top, _, body = exchange(paused_server, sent).partition(b"\r\n\r\n")
        assert top.startswith(b"HTTP/1.1 400 ")
        fields = dict(line.split(": ", 1) for line in top.decode("ascii").lower().split("\r\n")[1:])
        assert fields["content-type"] == "text/plain; charset=utf-8"
        assert fields["connection"] == "close"
        assert body == NO_HTTP


@pytest.mark.parametrize(
    "value", ["1e3", "-0", "0x1", "９", "9" * 20, "9" * 21, "1,2", "NaN", "\u0661"]
)
def test_an_odd_last_event_id_is_refused(client: httpx.Client, value: str) -> None:
    submitted = client.post("/v1/experiments", json=tiny_experiment()).json()["id"]
    client.post(f"/v1/experiments/{submitted}/cancel").raise_for_status()
    headers = {b"Last-Event-ID": value.encode()}
    answer = client.get(f"/v1/experiments/{submitted}/events", headers=headers)
    if value == "9" * 20:  # past every event: nothing is left
        assert (answer.status_code, answer.text.strip()) == (200, "retry: 1000")
    else:
        assert_problem(answer, 422, "")
    client.delete(f"/v1/experiments/{submitted}").raise_for_status()


@pytest.mark.parametrize(
    "kind", ["application/xml", "multipart/form-data; boundary=x", "text/html", "\xff", ""]
)
def test_content_types_decide_nothing(client: httpx.Client, kind: str) -> None:
    """Each route reads its body in its own format, whatever the header says."""
    headers = {b"Content-Type": kind.encode("latin-1")}
    xml = b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>'
    for route, status in (("experiments", 400), ("datasets", 422), ("translators", 422)):
        assert_problem(client.post(f"/v1/{route}", content=xml, headers=headers), status, "")


@pytest.mark.parametrize(
    "name", ["%00", "a%00b", "%0A", "%F3%A0%80%81", "%E2%80%AE", "x" * 201, ""]
)
def test_unprintable_and_overlong_names_are_refused(client: httpx.Client, name: str) -> None:
    answer = client.post(f"/v1/translators?name={name}", content=b"{}")
    assert_problem(answer, 422, "name")
    if len(name) != 201:  # which is none too many for a file
        answer = client.post(f"/v1/corpora?name={name}", content=b"A text.")
        assert_problem(answer, 422, "name")


def test_hostile_rows_are_refused(client: httpx.Client) -> None:
    for line in (
        json.dumps(ROW | {"id": "../../etc/passwd"}) + "\n" + "{" * 5000,
        json.dumps(ROW | {"context": "\ud800"}),
        '{"id": "a", "id": "b"}',
        '{"a":' * 4000,
        json.dumps(ROW | {"extra": 1}).replace("1}", "1e999}"),
        json.dumps(ROW).replace("Oslo.", "Oslo." + "9" * 18_000),
        "\0" * 500,
        "\r" * 500,
    ):
        assert_problem(client.post("/v1/datasets", content=line.encode()), 422, "")
    assert client.get("/v1/datasets").json() == {"datasets": []}


def test_a_name_that_looks_like_a_path_is_a_name(
    client: httpx.Client, paused_server: RunningServer
) -> None:
    for name in ("../../etc/passwd", "/etc/passwd", "..", "a\\b", "~root", "x" * 255):
        made = client.post("/v1/corpora", content=b"A text.\n", params={"name": name})
        assert made.json()["name"] == name
    files = list((paused_server.data / "corpora").iterdir())
    assert [file.name for file in files] == [f"{made.json()['sha256']}.txt"]
    assert client.delete(f"/v1/corpora/{made.json()['sha256']}").status_code == 204


def test_unknown_methods_are_refused(client: httpx.Client) -> None:
    for method in ("PUT", "PATCH", "TRACE", "PROPFIND", "GETS", "A" * 200):
        answer = client.request(method, "/v1/experiments")
        assert_problem(answer, 405, "")
    assert client.get(
        "/v1/pairs", headers={"Upgrade": "websocket", "Connection": "Upgrade"}
    ).is_success


@pytest.mark.parametrize("layer", ["__class__.__init__.__globals__", "../../x", 10**30, "a\n'b"])
def test_a_layer_that_the_model_lacks_fails_the_job(server: RunningServer, layer: Any) -> None:
    declared = tiny_experiment(rows=1, sender={"model": "sender", "layer": layer}, **LONG)
    with server.client() as client:
        answer = client.post("/v1/experiments", json=declared)
        if answer.status_code == 201:
            view = ended(client, answer.json()["id"])
            assert view["state"] == "failed"
            assert "layer" in view["error"]
            assert "internal error" not in view["error"]
        else:
            assert_problem(answer, 422, "layer")
        harmless = submit(client, tiny_experiment(rows=1, limit=10**30, **LONG))
        assert ended(client, harmless)["state"] == "done"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            '{"filters": [{"function": "regex", "regex_pattern": "(a+)+$"}]}',
            "row 1: its scoring_settings hold regular expressions",
        ),
        (
            '{"filters": [{"function": "\\u0072egex"}]}',
            "row 1: its scoring_settings hold regular expressions",
        ),
        (
            '{"regexes_to_ignore": ["(a+)+$"]}',
            "row 1: its scoring_settings hold regular expressions",
        ),
        ("[" * 5_000, "row 1: scoring_settings: nested too deeply"),
        ("{", "row 1: scoring_settings: not JSON"),
    ],
)
def test_regular_expressions_of_a_client_are_not_run(
    client: httpx.Client, settings: str, words: str
) -> None:
    row = {**ROW, "scoring": "harness", "scoring_settings": settings}
    answer = client.post("/v1/datasets", content=json.dumps(row).encode())
    assert_problem(answer, 422, words)
