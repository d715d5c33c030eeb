"""Unfinished work after an upgrade: it continues, or its error states what to do."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from statebridge.errors import ExperimentError
from statebridge_server.worker.job_run import stored_experiment
from tests.server.conftest import tiny_experiment
from tests.server.running_server import RunningServer, ended, eventually, submit


def test_a_run_that_another_version_began_says_so(server: RunningServer) -> None:
    asked = tiny_experiment(
        30,
        conditions=["no_inject", "zero_replacement"],
        translators=None,
        execution={"max_lanes": 2},
        decoding={"max_new_tokens": 40, "max_prompt_tokens": 400},
    )
    with server.client() as client:
        experiment_id = submit(client, asked)
        path = f"/v1/experiments/{experiment_id}"
        eventually(lambda: client.get(path).json()["rows_done"] > 0, "the first rows")
        client.post(f"{path}/cancel")
        stopped = ended(client, experiment_id)
        assert stopped["state"] == "cancelled"
        file = server.data / "runs" / experiment_id / "manifest.json"
        manifest = json.loads(file.read_text("utf-8"))
        manifest["versions"]["torch"] = "2.0.1"
        file.write_text(json.dumps(manifest), encoding="utf-8")
        assert client.post(f"{path}/resume").status_code == 200
        view = ended(client, experiment_id)
        assert view["state"] == "failed"
        assert view["error"].startswith("this experiment was begun with another versions.torch: ")
        assert view["error"].endswith("submit it again, which runs it from the start")
        assert "--out" not in view["error"]
        # What was committed can still be fetched.
        rows = client.get(f"{path}/rows").text.splitlines()
        assert len(rows) == stopped["rows_done"]


def test_a_field_that_is_no_longer_accepted_is_named() -> None:
    whole: dict[str, Any] = tiny_experiment() | {"decoding": {"beams": 4}}
    with pytest.raises(ExperimentError) as caught:
        stored_experiment(SimpleNamespace(experiment=whole))  # type: ignore[arg-type]
    message = str(caught.value)
    assert message.startswith("decoding.beams: accepted by another version of this server")
    assert "\n" not in message
