"""An experiment file that names the pair of the shared server here, and clients of that server."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from statebridge.commands import main
from statebridge.engine.run_experiment import run_experiment
from statebridge.experiment import load_experiment
from statebridge.run import Run
from statebridge_client import Client, RemoteRun
from tests.server.conftest import tiny_experiment
from tests.server.running_server import RunningServer


@pytest.fixture(scope="session")
def experiment_file(pair_folder: Path) -> Path:
    """An experiment file as a person writes it: the models are folders beside it."""
    sides = {
        name: {"model": f"./{name}", "layer": layer}
        for name, layer in (("sender", 1), ("receiver", 2))
    }
    path = pair_folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(tiny_experiment(**sides, execution={"device": "cpu"})))
    return path


@pytest.fixture(scope="session")
def local(experiment_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The run of that file on this machine."""
    out = tmp_path_factory.mktemp("local") / "run"
    run_experiment(load_experiment(experiment_file), out)
    return Run(out)


@pytest.fixture(scope="session")
def client(server: RunningServer) -> Iterator[Client]:
    """A client of the server, which asks for no key."""
    with Client(server.url) as opened:
        yield opened


@pytest.fixture(scope="session")
def finished(client: Client, experiment_file: Path) -> RemoteRun:
    """The same file, carried out by the server."""
    return client.submit(experiment_file).wait(progress=False)


class Output:
    """Output of a command, and its exit code."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> Any:
        """The answer, where JSON was asked for."""
        return json.loads(self.out)


@pytest.fixture
def call(
    server: RunningServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., Output]:
    """Call a command as the console script does, with the server in the environment."""
    monkeypatch.setenv("STATEBRIDGE_URL", server.url)
    monkeypatch.chdir(tmp_path)

    def run(*words: str | Path) -> Output:
        monkeypatch.setattr(sys, "argv", ["statebridge", *map(str, words)])
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        output = capsys.readouterr()
        return Output(code, output.out, output.err)

    return run
