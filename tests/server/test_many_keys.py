"""A server with keys that takes again what it has: each key gets the rows that it would get alone,
and takes nothing of another one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.server.conftest import tiny_experiment
from tests.server.running_server import RunningServer, ended, running_server, submit
from tests.server.test_corpora import NAME, ROUTE, SHA256, TEXT, fitted_on
from tests.server.test_jobs import all_events

pytestmark = pytest.mark.slow

CONDITIONS = (
    ["no_inject", "replace"],
    ["no_inject", "same_norm_random"],
    ["no_inject", "shuffled_translation"],
    ["nl_relay"],
    ["scale_corrected", "best_alpha"],
    ["no_inject", "additive", "zero_replacement"],
    ["b_to_b_self_inject"],
    ["published"],
)


def experiments() -> list[dict[str, Any]]:
    found = []
    for place, conditions in enumerate(CONDITIONS):
        reverse = place % 2 == 1
        sides = ("receiver", "sender") if reverse else ("sender", "receiver")
        found.append(
            tiny_experiment(
                rows=4 + place,
                sender={"model": sides[0], "layer": 1},
                receiver={"model": sides[1], "layer": 1},
                conditions=conditions,
                execution={"max_lanes": 8 + place},
            )
        )
    return found


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, pair_settings: dict[str, Any]
) -> Iterator[RunningServer]:
    """A server that reuses rows and fits."""
    settings = pair_settings | {"reuse": True}
    with running_server(tmp_path_factory.mktemp("keys"), settings) as running:
        yield running


def carried_out(
    server: RunningServer, token: str, experiment: dict[str, Any]
) -> tuple[dict[str, Any], bytes]:
    """Run an experiment; return its view and its rows."""
    with server.client(token) as client:
        experiment_id = submit(client, experiment)
        view = ended(client, experiment_id, server.moving)
        assert view["state"] == "done", view
        return view, client.get(f"/v1/experiments/{experiment_id}/rows").content


def test_eight_keys_at_once(server: RunningServer, alone: Any) -> None:
    tokens = [server.key("submit", f"key {place}") for place in range(8)]

    def use(token: str, experiment: dict[str, Any]) -> bytes:
        view, rows = carried_out(server, token, experiment)
        with server.client(token) as client:
            listed = client.get("/v1/experiments").json()["experiments"]
        assert [each["id"] for each in listed] == [view["id"]]
        return rows

    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(use, tokens, experiments()))
    assert found == [alone(experiment) for experiment in experiments()]


def test_rows_are_taken_again_by_their_key_alone(server: RunningServer) -> None:
    ann, ben = server.key("submit", "ann"), server.key("submit", "ben")
    experiment = tiny_experiment(rows=5, conditions="published-strict")
    first, rows = carried_out(server, ann, experiment)
    assert first["rows_reused"] == 0
    # Translators are fitted anew, to the same bytes.
    again, same = carried_out(server, ann, experiment | {"name": "again"})
    assert (again["rows_reused"], same) == (again["rows_total"], rows)
    with server.client(ann) as client:
        events = [data for _, _, data in all_events(client, again["id"])]
    assert events[-1]["reused"] == again["rows_total"]
    other, _ = carried_out(server, ben, experiment)
    assert other["rows_reused"] == 0
    declined = experiment | {"execution": {"reuse": False}}
    assert carried_out(server, ann, declined)[0]["rows_reused"] == 0


def test_the_same_fit_is_taken_and_another_name_is_another(server: RunningServer) -> None:
    token = server.key("submit", "cat")
    with server.client(token) as client:
        client.post(ROUTE, content=TEXT, params={"name": NAME}).raise_for_status()

    def fitted(corpus: dict[str, Any], **fields: Any) -> list[tuple[str, str]]:
        """Name of the corpus and inode of each translator's file."""
        view, _ = carried_out(server, token, fitted_on({"sha256": SHA256} | corpus, **fields))
        folder = server.data / "runs" / view["id"] / "translators"
        return [
            (
                json.loads(file.with_suffix(".json").read_text("utf-8"))["corpus"]["name"],
                str(file.stat().st_ino),
            )
            for file in sorted(folder.glob("*.safetensors"))
        ]

    first = fitted({})
    assert [name for name, _ in first] == [NAME, NAME]
    assert fitted({"name": NAME}, name="again", conditions=["additive"]) == first
    other = fitted({"name": "other.txt"}, name="other")
    assert [name for name, _ in other] == ["other.txt", "other.txt"]
    assert {inode for _, inode in other}.isdisjoint(inode for _, inode in first)
    fewer = fitted({"max_passages": 20}, name="fewer")
    assert {inode for _, inode in fewer}.isdisjoint(inode for _, inode in first)
