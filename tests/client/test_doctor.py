"""The doctor of a server through the client, and through `statebridge submit --check`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from statebridge.commands.app import main
from statebridge.errors import ExperimentError
from statebridge_client.commands import experiments
from tests.client.answers import Script, answer, problem
from tests.server.conftest import tiny_experiment

LAYERS = {"what": "layers", "ready": False, "detail": "receiver.layer: give 0 to 3, not 99"}
CAUTION = {"what": "caution", "ready": True, "detail": "no condition has a control"}


def test_the_findings_come_as_the_server_gives_them() -> None:
    script = Script([answer({"ready": False, "checks": [LAYERS, CAUTION]})])
    layers, caution = script.client().doctor(tiny_experiment(), {"limit": 2})
    assert (layers.what, layers.ready, layers.detail) == tuple(LAYERS.values())
    assert caution.is_caution
    (request,) = script.requests
    assert request.url.path == "/v1/doctor"
    assert json.loads(request.content)["limit"] == 2


def test_a_refused_experiment_is_an_error_of_the_experiment() -> None:
    script = Script([problem(422, "dataset.sha256: upload it first")])
    with pytest.raises(ExperimentError, match="upload it first"):
        script.client().doctor(tiny_experiment())


def test_submit_with_check_prints_and_submits_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = Script([answer({"ready": False, "checks": [LAYERS, CAUTION]})])
    monkeypatch.setattr(experiments, "open_client", lambda *_: script.client())
    file = tmp_path / "tiny.json"
    file.write_text(json.dumps(tiny_experiment()))
    monkeypatch.setattr(sys, "argv", ["statebridge", "submit", str(file), "--check"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 1
    assert capsys.readouterr().out.splitlines() == [
        f"MISSING  layers       {LAYERS['detail']}",
        f"CAUTION               {CAUTION['detail']}",
    ]
    assert [request.url.path for request in script.requests] == ["/v1/doctor"]
