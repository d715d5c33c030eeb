"""A text of one's own to fit on: uploaded, checked, named in an experiment, deleted."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from statebridge.engine.run_experiment import run_experiment
from statebridge.experiment import parse_experiment
from statebridge.experiment.experiment import GeneratedRows
from statebridge.tasks.declared_rows import generated_rows
from tests.server.conftest import tiny_experiment
from tests.server.running_server import RunningServer, ended, submit
from tests.server.test_refusals import assert_problem

ROUTE = "/v1/corpora"
TEXT = "\n\n".join(row.context for row in generated_rows(GeneratedRows(rows=24, seed=7))).encode()
SHA256 = hashlib.sha256(TEXT).hexdigest()
NAME = "my text.txt"


@pytest.fixture(scope="module")
def client(paused_server: RunningServer) -> Iterator[httpx.Client]:
    """Nobody needs a key here: none was ever made."""
    with paused_server.client() as opened:
        yield opened


def fitted_on(corpus: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """An experiment whose translators are fitted on that."""
    fit = {"kind": "ridge", "corpus": corpus}
    return tiny_experiment(rows=2, translators={"fit": fit}, conditions=["replace"]) | fields


def test_a_text_is_uploaded_listed_and_deleted(
    client: httpx.Client, paused_server: RunningServer
) -> None:
    made = client.post(ROUTE, content=TEXT, params={"name": NAME, "sha256": SHA256})
    assert made.status_code == 201, made.text
    assert made.headers["location"] == f"{ROUTE}/{SHA256}"
    view = made.json()
    assert view.pop("created_at").startswith("20")
    assert view == {"sha256": SHA256, "name": NAME, "bytes": len(TEXT), "passages": 24}
    file = paused_server.data / "corpora" / f"{SHA256}.txt"
    assert file.read_bytes() == TEXT
    again = client.post(ROUTE, content=TEXT, params={"name": "other.txt"})
    assert (again.status_code, again.json()["name"]) == (200, "other.txt")
    assert client.get(f"{ROUTE}/{SHA256}").json() == again.json()
    assert client.get(ROUTE).json() == {"corpora": [again.json()]}
    # The same bytes may be both: a dataset is another thing.
    assert_problem(client.get(f"/v1/datasets/{SHA256}"), 404, "no such dataset")
    assert client.delete(f"{ROUTE}/{SHA256}").status_code == 204
    assert_problem(client.get(f"{ROUTE}/{SHA256}"), 404, "no such corpus")
    assert_problem(client.delete(f"{ROUTE}/{SHA256}"), 404, "no such corpus")
    assert not file.exists()
    assert client.get(ROUTE).json() == {"corpora": []}


@pytest.mark.parametrize(
    ("content", "query", "status", "expected"),
    [
        (b"", {}, 422, "upload: the corpus holds no passage"),
        (b" \n\r\n\n", {}, 422, "no passage"),
        (b"= Title =\n\n= = Section = =\n", {}, 422, "no passage; it needs lines of text beside"),
        (b"good\nbad \xff here\n", {}, 422, "upload, line 2: byte 5 is not UTF-8"),
        (b"good\n" * 2000 + b"\xc3", {}, 422, "upload, line 2001: byte 1 is not UTF-8"),
        ("a text".encode("utf-16"), {}, 422, "line 1: is UTF-16 text"),
        (TEXT, {"sha256": "0" * 64}, 422, f"has SHA-256 {SHA256}, not the declared {'0' * 64}"),
        (TEXT, {"sha256": "0" * 63}, 422, "query.sha256"),
        (TEXT, {"sha256": SHA256.upper()}, 422, "query.sha256"),
        (TEXT, {"name": ""}, 422, "query.name"),
        (TEXT, {"name": "x" * 256}, 422, "query.name"),
        (TEXT, {"name": "a\nb"}, 422, "name: give printable characters"),
        (b"one\n" + b"x" * 2001, {}, 422, "passage 2: more than 2000 characters"),
        (b"x\n" * 7501, {}, 413, "15000 bytes at most"),
    ],
)
def test_a_text_that_is_wrong(
    client: httpx.Client,
    paused_server: RunningServer,
    content: bytes,
    query: dict[str, str],
    status: int,
    expected: str,
) -> None:
    assert_problem(client.post(ROUTE, content=content, params=query), status, expected)
    assert not list((paused_server.data / "incoming").iterdir())
    assert not list((paused_server.data / "corpora").iterdir())
    assert client.get(ROUTE).json() == {"corpora": []}


def test_a_text_that_names_no_length_is_cut_off(client: httpx.Client) -> None:
    answer = client.post(ROUTE, content=(b"some text\n" * 100 for _ in range(30)))
    assert_problem(answer, 413, "15000 bytes at most")


def test_a_line_of_equals_signs_takes_no_time(client: httpx.Client) -> None:
    began = time.monotonic()
    made = client.post(ROUTE, content=b"= " * 999 + b"x\n" + b"= " * 999 + b"=\n")
    assert made.json()["passages"] == 1  # the second line is a heading
    assert time.monotonic() - began < 5
    assert client.delete(f"{ROUTE}/{made.json()['sha256']}").status_code == 204


@pytest.mark.parametrize(
    ("corpus", "expected"),
    [
        ({"path": "/etc/passwd"}, "upload the file to /v1/corpora and give "),
        ({"path": "/etc/passwd"}, "translators.fit.corpus.path: a server reads no paths"),
        ({"path": "corpora/x", "sha256": "0" * 64}, "reads no paths"),
        ({"path": None, "sha256": "0" * 64}, "reads no paths"),
        ({}, "translators.fit.corpus.sha256: give the 64 lower-case hex digits"),
        ("x", "translators.fit.corpus: give {sha256: ...} of an uploaded corpus, or {generate"),
        (None, "translators.fit.corpus: give {sha256: ...}"),
        ({"sha256": "../../etc/passwd"}, "64 lower-case hex"),
        ({"sha256": ["0" * 64]}, "64 lower-case hex"),
        ({"sha256": "0" * 64}, "this key has uploaded no corpus 0000"),
        ({"sha256": "0" * 64, "name": "x" * 256}, "uploaded no corpus"),
        ({"generate": {"rows": 20}, "name": "x"}, "leave it out with generate"),
    ],
)
def test_a_reference_that_is_wrong(client: httpx.Client, corpus: Any, expected: str) -> None:
    assert_problem(client.post("/v1/experiments", json=fitted_on(corpus)), 422, expected)
    sets = {"sets": {"mine": {"corpus": corpus}}}
    answer = client.post("/v1/experiments", json=fitted_on({}) | {"translators": sets})
    where = "translators.sets.mine.fit.corpus"
    assert_problem(answer, 422, expected.replace("translators.fit.corpus", where))


def test_a_text_in_use_stays(client: httpx.Client, paused_server: RunningServer) -> None:
    client.post(ROUTE, content=TEXT, params={"name": NAME}).raise_for_status()
    declared = fitted_on({"sha256": SHA256, "max_tokens": 40})
    for wrong, expected in (
        ({"name": ""}, "translators.fit.corpus.name"),
        ({"name": "x" * 256}, "translators.fit.corpus.name"),
        ({"name": "a\x1b[31m"}, "give printable characters"),
        ({"max_passages": 0}, "max_passages"),
        ({"max_tokens": 10**6}, "passages times max_tokens: 24000000 is more than this server's"),
    ):
        answer = client.post("/v1/experiments", json=fitted_on({"sha256": SHA256} | wrong))
        assert_problem(answer, 422, expected)
    submitted = client.post("/v1/experiments", json=declared).json()
    (shown,) = submitted["experiment"]["translators"].values()
    assert "path" not in shown["corpus"]
    expected = {"sha256": SHA256, "name": NAME, "max_tokens": 40}
    assert {k: shown["corpus"][k] for k in expected} == expected
    # What is shown can be sent again.
    again = client.post("/v1/experiments", json=submitted["experiment"])
    assert again.status_code == 201, again.text
    for view in (submitted, again.json()):
        assert_problem(client.delete(f"{ROUTE}/{SHA256}"), 409, "reads it; cancel that")
        assert (paused_server.data / "corpora" / f"{SHA256}.txt").exists()
        client.post(f"/v1/experiments/{view['id']}/cancel").raise_for_status()
    assert client.delete(f"{ROUTE}/{SHA256}").status_code == 204
    assert not list((paused_server.data / "corpora").iterdir())


def test_a_resume_names_a_corpus_that_was_deleted(client: httpx.Client) -> None:
    client.post(ROUTE, content=TEXT, params={"name": NAME}).raise_for_status()
    made = client.post("/v1/experiments", json=fitted_on({"sha256": SHA256})).json()
    there = f"/v1/experiments/{made['id']}"
    client.post(f"{there}/cancel").raise_for_status()
    client.delete(f"{ROUTE}/{SHA256}").raise_for_status()
    expected = f"corpus {SHA256}, which it reads, has been deleted; upload it again"
    assert_problem(client.post(f"{there}/resume"), 409, expected)
    client.post(ROUTE, content=TEXT, params={"name": NAME}).raise_for_status()
    assert client.post(f"{there}/resume").json()["state"] == "queued"
    client.post(f"{there}/cancel").raise_for_status()
    client.delete(f"{ROUTE}/{SHA256}").raise_for_status()


def test_one_long_line_is_not_read_whole(client: httpx.Client) -> None:
    # Two thousand characters take eight thousand bytes at most.
    line = b"word \xf0\x9f\x98\x80" * 1200
    assert_problem(client.post(ROUTE, content=line), 422, "upload, line 1: more than 9000 bytes")


def test_passages_that_are_fitted_on_are_bounded(client: httpx.Client) -> None:
    lines = b"".join(b"Bob works in Lima %d.\n" % i for i in range(60))
    sha256 = client.post(ROUTE, content=lines).json()["sha256"]
    answer = client.post("/v1/experiments", json=fitted_on({"sha256": sha256}))
    assert_problem(answer, 422, "translators.fit.corpus.max_passages: 60 is more than this")
    fewer = client.post(
        "/v1/experiments", json=fitted_on({"sha256": sha256, "max_passages": 50})
    ).json()
    client.post(f"/v1/experiments/{fewer['id']}/cancel").raise_for_status()
    assert client.delete(f"{ROUTE}/{sha256}").status_code == 204


@pytest.fixture
def alone(pair_folder: Path, tmp_path: Path) -> Path:
    """The run directory of `statebridge run` over the text in a file of its own."""
    file = tmp_path / NAME
    file.write_bytes(TEXT)
    declared = fitted_on({"path": str(file), "max_tokens": 40})
    for side in ("sender", "receiver"):
        declared[side] = declared[side] | {"model": str(pair_folder / side)}
    run_experiment(parse_experiment(json.dumps(declared)), tmp_path / "run")
    return tmp_path / "run"


def test_the_fit_is_that_of_the_library(server: RunningServer, alone: Path) -> None:
    with server.client() as client:
        client.post(ROUTE, content=TEXT, params={"name": NAME}).raise_for_status()
        experiment_id = submit(client, fitted_on({"sha256": SHA256, "max_tokens": 40}))
        view = ended(client, experiment_id)
        assert view["state"] == "done", view
        rows = client.get(f"/v1/experiments/{experiment_id}/rows").content
        fitted = [
            item
            for item in client.get("/v1/translators").json()["translators"]
            if item["experiment"] == experiment_id
        ]
        # What was fitted stays when the text goes.
        assert client.delete(f"{ROUTE}/{SHA256}").status_code == 204
        assert sorted(item["name"] for item in fitted) == ["tiny, seed123", "tiny, seed42"]
        for item in fitted:
            path = f"/v1/translators/{item['id']}"
            here = alone / "translators" / f"{item['name'].split()[1]}.safetensors"
            assert client.get(f"{path}/file").content == here.read_bytes()
            card = json.loads(here.with_suffix(".json").read_text("utf-8"))
            shown = client.get(f"{path}/card").json()
            assert shown | {"created_at": card["created_at"]} == card
            assert card["corpus"]["name"] == NAME
            assert card["corpus"]["sha256"] == SHA256
            assert len(card["weights_sha256"]) == 64
    assert rows == (alone / "rows.jsonl").read_bytes()
