"""The files that make a run directory of rows, the last event first, and margins of one's own."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx
import pytest

from tests.server.conftest import tiny_experiment
from tests.server.running_server import RunningServer, ended, submit
from tests.server.test_jobs import LONG, all_events, read_events


@pytest.fixture(scope="module")
def client(server: RunningServer) -> Iterator[httpx.Client]:
    with server.client() as opened:
        yield opened


@pytest.fixture(scope="module")
def finished(client: httpx.Client) -> str:
    experiment_id = submit(client, tiny_experiment(rows=4, **LONG))
    assert ended(client, experiment_id)["state"] == "done"
    return experiment_id


def test_the_files_are_those_of_the_run_directory(
    server: RunningServer, client: httpx.Client, finished: str
) -> None:
    folder = server.data / "runs" / finished
    kinds = {
        "manifest.json": "application/json",
        "dataset.jsonl": "application/jsonl",
        "sessions.jsonl": "application/jsonl",
    }
    for name, kind in kinds.items():
        answer = client.get(f"/v1/experiments/{finished}/files/{name}")
        assert answer.status_code == 200
        assert answer.content == (folder / name).read_bytes()
        assert answer.headers["content-type"] == kind
        assert str(server.folder).encode() not in answer.content


def test_no_other_file_can_be_had(client: httpx.Client, finished: str) -> None:
    for name in (
        "rows.jsonl",
        ".lock",
        "../../statebridge.sqlite",
        "%2e%2e%2fx",
        "",
        "MANIFEST.JSON",
    ):
        answer = client.get(f"/v1/experiments/{finished}/files/{name}")
        assert answer.status_code in (404, 422), name
    assert client.get("/v1/experiments/exp_nowhere/files/manifest.json").status_code == 404


def test_an_experiment_that_never_ran_has_none(client: httpx.Client) -> None:
    # A prompt beyond the window fails before the run directory is written.
    prompts = {"task": "{question}" + " word" * 600}
    long = LONG | {"decoding": {"max_prompt_tokens": 4096}}
    experiment_id = submit(client, tiny_experiment(prompts=prompts, **long))
    assert ended(client, experiment_id)["state"] == "failed"
    answer = client.get(f"/v1/experiments/{experiment_id}/files/manifest.json")
    assert answer.status_code == 409
    assert "no row is committed yet; the experiment is failed" in answer.json()["detail"]


def test_events_can_begin_with_the_last_one(client: httpx.Client, finished: str) -> None:
    path = f"/v1/experiments/{finished}/events"
    every = all_events(client, finished)
    with client.stream("GET", path, params={"latest": True}) as answer:
        assert list(read_events(answer.iter_lines())) == every[-1:]
    # A number that was seen says more.
    after = {"Last-Event-ID": "1"}
    with client.stream("GET", path, params={"latest": True}, headers=after) as answer:
        assert list(read_events(answer.iter_lines())) == every[1:]


def test_a_comparison_by_an_attribute_that_no_row_has(client: httpx.Client, finished: str) -> None:
    answer = client.get(f"/v1/experiments/{finished}/comparison", params={"by": "hop"})
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith("by hop: no row has it; did you mean hops")


def test_a_comparison_with_margins_of_ones_own(client: httpx.Client, finished: str) -> None:
    path = f"/v1/experiments/{finished}/comparison"
    query = {"metric": "word_boundary_contains"}
    own = client.get(path, params=query | {"margin": ["0.2", "0.1"]})
    assert own.json()["settings"]["margins"] == [0.2, 0.1]
    usual = client.get(path, params=query).json()
    assert usual["settings"]["margins"] == [0.05, 0.03]
    for margin in ("0", "-1", "nan", "inf", "1.5", "x"):
        answer = client.get(path, params=query | {"margin": margin})
        assert answer.status_code == 422, margin
        json.loads(answer.content)
