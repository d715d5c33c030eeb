"""A job's life over HTTP: events, cancelling, going on, failing without harm to the next."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx

from tests.server.conftest import tiny_experiment
from tests.server.running_server import RunningServer, ended, eventually, submit

LONG = {
    "conditions": ["no_inject", "same_norm_random", "zero_replacement", "b_to_b_self_inject"],
    "translators": None,
    "execution": {"max_lanes": 5},
    "decoding": {"max_new_tokens": 24, "max_prompt_tokens": 400},
}
"""Needs no translator, and commits one row of the dataset at a time."""


def read_events(lines: Iterator[str]) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """Yield (id, kind, data) of a stream of server-sent events."""
    fields: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(":")
            fields[name] = value.strip()
        elif fields:
            if "data" in fields:
                yield int(fields["id"]), fields["event"], json.loads(fields["data"])
            fields = {}


def all_events(
    client: httpx.Client, experiment_id: str, after: int | None = None
) -> list[tuple[int, str, dict[str, Any]]]:
    headers = {} if after is None else {"Last-Event-ID": str(after)}
    path = f"/v1/experiments/{experiment_id}/events"
    with client.stream("GET", path, headers=headers) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        return list(read_events(answer.iter_lines()))


def test_cancel_while_it_runs_then_resume_to_the_same_rows(
    server: RunningServer, alone: Any
) -> None:
    experiment = tiny_experiment(rows=20, **LONG)
    with server.client() as client:
        experiment_id = submit(client, experiment)
        path = f"/v1/experiments/{experiment_id}"
        # The stream, cut off by its reader once rows are being committed.
        seen = []
        with client.stream("GET", f"{path}/events") as answer:
            for event in read_events(answer.iter_lines()):
                seen.append(event)
                if event[2].get("stage") == "run" and event[2]["done"] > 0:
                    break
        assert client.post(f"{path}/cancel").json()["cancelling"]
        cancelled = ended(client, experiment_id)
        assert cancelled["state"] == "cancelled"
        assert 0 < cancelled["rows_done"] < cancelled["rows_total"]
        part = client.get(f"{path}/rows").content
        assert part.count(b"\n") >= cancelled["rows_done"]

        rest = all_events(client, experiment_id, after=seen[-1][0])
        numbers = [number for number, _, _ in seen + rest]
        assert numbers == list(range(1, len(numbers) + 1))
        assert rest[-1][2]["state"] == "cancelled"
        assert all_events(client, experiment_id, after=numbers[-1]) == []

        assert client.post(f"{path}/resume").status_code == 200
        assert ended(client, experiment_id)["state"] == "done"
        rows = client.get(f"{path}/rows").content
        assert rows.startswith(part)
        again = all_events(client, experiment_id, after=numbers[-1])
        running = [data for _, kind, data in again if kind == "progress"]
        assert running[-1]["done"] == running[-1]["total"] == rows.count(b"\n")
        assert any("rows_per_second" in data and "seconds_left" in data for data in running)

        assert rows == alone(experiment)
        assert client.delete(path).status_code == 204
        assert client.get(path).status_code == 404
    assert not (server.data / "runs" / experiment_id).exists()


def test_a_job_that_fails_says_why_and_the_next_one_runs(server: RunningServer) -> None:
    with server.client() as client:
        bad = tiny_experiment(sender={"model": "sender", "layer": 99}, **LONG)
        failing, following = submit(client, bad), submit(client, tiny_experiment(rows=1, **LONG))
        failed = ended(client, failing)
        assert failed["state"] == "failed"
        assert "99" in failed["error"]
        assert str(server.data) not in failed["error"]
        assert client.get(f"/v1/experiments/{failing}/report").status_code == 409
        assert ended(client, following)["state"] == "done"


def test_the_reverse_pair_holds_the_same_models_once(server: RunningServer) -> None:
    reverse = tiny_experiment(
        rows=1,
        sender={"model": "receiver", "layer": 1},
        receiver={"model": "sender", "layer": 1},
        **LONG,
    )
    with server.client() as client:
        view = ended(client, submit(client, reverse))
        assert (view["state"], view["pair"]) == ("done", "tiny-reverse")
        pairs = {pair["name"]: pair for pair in client.get("/v1/pairs").json()["pairs"]}
    assert {pair["state"] for pair in pairs.values()} == {"loaded"}
    assert pairs["tiny"]["loaded"]["sender"] == pairs["tiny-reverse"]["loaded"]["receiver"]
    (receiver,) = pairs["tiny"]["loaded"]["receiver"]
    assert (receiver["blocks"], receiver["width"], receiver["dtype"]) == (4, 32, "float32")
    assert receiver["bytes"] == 4 * receiver["parameters"]


def test_a_stream_ends_when_its_reader_goes(server: RunningServer) -> None:
    with server.client() as client:
        experiment_id = submit(client, tiny_experiment(rows=30, **LONG))
        with client.stream("GET", f"/v1/experiments/{experiment_id}/events") as answer:
            next(answer.iter_lines())

        def open_streams() -> bool:
            return "statebridge_event_streams 0.0" in client.get("/metrics").text

        eventually(open_streams, "the end of the stream")
        client.post(f"/v1/experiments/{experiment_id}/cancel")
        ended(client, experiment_id)
        wrong = client.get(
            f"/v1/experiments/{experiment_id}/events", headers={"Last-Event-ID": "-1"}
        )
        assert wrong.status_code == 422
