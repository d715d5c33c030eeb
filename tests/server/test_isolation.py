"""Eight keys at once: each gets the rows that it would get alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from statebridge_server.store.database import Database
from statebridge_server.store.keys import create_key
from tests.server.conftest import tiny_experiment
from tests.server.running_server import ended, running_server, submit

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


@pytest.mark.slow
def test_eight_keys_at_once(tmp_path: Path, pair_settings: dict[str, Any], alone: Any) -> None:
    with running_server(tmp_path, pair_settings) as server:
        database = Database(server.database_url)
        tokens = [create_key(database, f"key {i}", "submit")[0] for i in range(8)]
        database.close()

        def use(token: str, experiment: dict[str, Any]) -> bytes:
            with server.client(token) as client:
                experiment_id = submit(client, experiment)
                view = ended(client, experiment_id)
                assert view["state"] == "done", view
                listed = client.get("/v1/experiments").json()["experiments"]
                assert [v["id"] for v in listed] == [experiment_id]
                return client.get(f"/v1/experiments/{experiment_id}/rows").content

        with ThreadPoolExecutor(8) as threads:
            found = list(threads.map(use, tokens, experiments()))
    assert found == [alone(experiment) for experiment in experiments()]
