"""`statebridge init`: an experiment file that says what was asked for, and that a run accepts."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from statebridge.commands.app import app
from statebridge.errors import ExperimentError, InputError
from statebridge.experiment import load_experiment


def _init(*options: str) -> Exception | None:
    found = CliRunner().invoke(app, ["init", *options])
    return found.exception if isinstance(found.exception, Exception) else None


def test_the_defaults_are_an_experiment(tmp_path: Path) -> None:
    file = tmp_path / "first.yaml"
    assert _init(str(file)) is None
    experiment = load_experiment(file)
    assert experiment.name == "first"
    assert experiment.dataset.generate is not None
    assert "private_last_null" in [c.name for c in experiment.resolved_conditions]


def test_options_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows 1.jsonl").touch()
    (tmp_path / "mine").mkdir()
    file = Path("mine", "second.yaml")
    pair = ["--sender", "a/b: #c", "--receiver", "./my models/x"]
    assert _init(str(file), *pair, "--dataset", "rows 1.jsonl", "--setting", "shared") is None
    experiment = load_experiment(file)
    assert experiment.sender.model == "a/b: #c"
    assert Path(experiment.receiver.model).resolve() == tmp_path / "my models" / "x"
    assert experiment.dataset.path is not None
    assert experiment.dataset.path.resolve() == tmp_path / "rows 1.jsonl"
    assert "replace" in [c.name for c in experiment.resolved_conditions]


def test_what_cannot_be_an_experiment_is_not_written(tmp_path: Path) -> None:
    secret, long = tmp_path / "third.yaml", tmp_path / f"{'n' * 220}.yaml"
    found = _init(str(secret), "--setting", "secret")
    assert isinstance(found, InputError)
    assert "--setting secret: no such setting" in str(found)
    found = _init(str(secret), "--dataset", "multihp")
    assert "--dataset multihp: no such file, and no task" in str(found)
    assert "did you mean multihop" in str(found)
    found = _init(str(long))
    assert isinstance(found, ExperimentError)
    assert "name" in str(found)
    assert not [*tmp_path.iterdir()]


def test_a_file_is_not_written_over(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("name: mine\n", encoding="utf-8")
    assert "is there already" in str(_init(str(file)))
    assert file.read_text(encoding="utf-8") == "name: mine\n"
