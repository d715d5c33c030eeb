"""The content that a tracker gets of a run; each real one is read back where it is installed."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from statebridge.commands.app import app
from statebridge.errors import EnvironmentFault, InputError, RemoteError, ResultError
from statebridge.run import Run
from statebridge.sharing import tracking
from statebridge.sharing.tracking import TRACKERS, LoggedRun
from tests.bridge.pages.made_runs import made_run

LOW, MEAN, HIGH = (f"replace/word_boundary_contains{end}" for end in ("_low", "", "_high"))


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(made_run(tmp_path / "run"))


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, LoggedRun, dict[str, str]]]:
    """The runs that a recording tracker of the name `recorder` got, with texts of files."""
    found: list[tuple[str, LoggedRun, dict[str, str]]] = []

    def recorder(run: LoggedRun, project: str) -> str:
        found.append((project, run, {file.name: file.read_text("utf-8") for file in run.files}))
        return "the list"

    TRACKERS.names()
    monkeypatch.setitem(TRACKERS._things, "recorder", recorder)
    return found


def test_settings_means_and_files_are_logged(
    run: Run, logged: list[tuple[str, LoggedRun, dict[str, str]]]
) -> None:
    done = CliRunner().invoke(app, ["track", str(run.path), "--to", "recorder", "--project", "p"])
    assert done.stdout == "logged to recorder: the list\n"
    ((project, got, texts),) = logged
    assert (project, got.name) == ("p", "layer 1")
    assert got.settings["decoding.max_new_tokens"] == 4
    assert got.settings["pair.receiver.model"] == "example/receiver"
    assert got.settings["rows.rows"] == 12
    assert got.settings["seeds"] == "[1]"
    assert "dataset.sha256" not in got.settings
    mean = run.score("replace", "gold_logprob")
    assert got.metrics["replace/gold_logprob"] == pytest.approx(mean, abs=1e-12)
    assert "replace/gold_logprob_low" not in got.metrics
    assert 0.0 < got.metrics[LOW] < got.metrics[MEAN] == 0.5 < got.metrics[HIGH] < 1.0
    # Clopper and Pearson's upper limit of none of twelve.
    none = got.metrics["no_inject/word_boundary_contains_high"]
    assert none == pytest.approx(1 - 0.025 ** (1 / 12), abs=1e-9)
    assert json.loads(texts["manifest.json"]) == run.manifest
    assert "layer 1" in texts["report.html"]
    assert not any(file.exists() for file in got.files)


def test_what_cannot_be_logged_is_refused(
    run: Run, logged: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "write_page", lambda results, file, title: file)
    with pytest.raises(InputError, match="unknown tracker 'mlfow'; did you mean mlflow"):
        run.track("mlfow")
    for name in ("mlflow", "wandb", "trackio"):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(EnvironmentFault, match=rf"pip install 'statebridge\[{name}\]'"):
            run.track(name)

    def broken(run: LoggedRun, project: str) -> str:
        raise OSError("no\nroute")

    monkeypatch.setitem(TRACKERS._things, "broken", broken)
    with pytest.raises(RemoteError, match=r"broken: .* \(OSError: no route\)"):
        run.track("broken")
    run.results().manifest = None  # as where several runs are read together
    with pytest.raises(ResultError, match="exactly one"):
        run.track("recorder")


@pytest.mark.filterwarnings("default")
def test_mlflow_gives_back_what_was_logged(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    first, second = run.track("mlflow", project="p"), run.track("mlflow", project="p")
    assert first != second
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("p").experiment_id
    found = client.search_runs([experiment])
    assert len(found) == 2
    assert found[0].info.status == "FINISHED"
    assert found[0].data.params["decoding.max_new_tokens"] == "4"
    assert found[0].data.metrics[MEAN] == 0.5
    names = [file.path for file in client.list_artifacts(found[0].info.run_id)]
    assert names == ["manifest.json", "report.html"]


@pytest.mark.filterwarnings("default")
def test_wandb_keeps_an_offline_run(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb", reason="wandb is not installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "staged"))
    run.track("wandb", project="p")
    (kept,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    content = kept.read_bytes()
    for part in (MEAN, HIGH, "decoding.max_new_tokens", "report.html", "manifest.json"):
        assert part.encode() in content, part


@pytest.mark.filterwarnings("default")
def test_trackio_gives_back_what_was_logged(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    trackio = pytest.importorskip("trackio", reason="trackio is not installed")
    run.track("trackio", project="p")
    (found,) = trackio.Api().runs("p")
    assert found.config["decoding.max_new_tokens"] == 4
    from trackio.sqlite_storage import SQLiteStorage

    (step,) = SQLiteStorage.get_logs("p", "layer 1")
    assert step[MEAN] == 0.5
    blobs = (tmp_path / "trackio" / "artifacts").rglob("*")
    texts = [file.read_text("utf-8") for file in blobs if file.is_file()]
    assert any("<html" in text for text in texts)
    assert any(text.startswith("{") and json.loads(text) == run.manifest for text in texts)
