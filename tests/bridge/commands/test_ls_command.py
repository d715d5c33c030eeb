"""`statebridge ls`: names with a line on each."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from statebridge.commands.app import app
from statebridge.errors import InputError
from statebridge.experiment.presets import CONDITIONS, PRESETS

LISTS = {
    "conditions": "replace",
    "presets": "private",
    "sources": "translated",
    "channels": "kv",
    "tasks": "multihop",
    "scoring": "babi",
    "translators": "procrustes",
    "metrics": "squad_f1",
    "families": "gpt_neox",
    "executors": "in_process",
    "formats": "lm-eval",
    "trackers": "mlflow",
}


def test_every_list_is_named_and_every_entry_described() -> None:
    pytest.importorskip("torch", reason="the base install lists no channels")
    found = json.loads(CliRunner().invoke(app, ["ls", "--json"]).stdout)
    assert list(found) == list(LISTS)
    for what, known in LISTS.items():
        assert known in found[what]
        assert all(line.strip() for line in found[what].values()), what
    assert set(found["conditions"]) == set(CONDITIONS)
    assert set(found["presets"]) == set(PRESETS)


def test_lines_fit_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for what in ([], ["conditions"], ["translators"]):
        lines = CliRunner().invoke(app, ["ls", *what]).stdout.splitlines()
        assert len(lines) > 3
        assert all(len(line) <= 80 for line in lines)
        assert not any(line.endswith("-") for line in lines)  # a name is not broken


def test_an_unknown_list_is_refused() -> None:
    found = CliRunner().invoke(app, ["ls", "metric"])
    assert isinstance(found.exception, InputError)
    assert str(found.exception) == "ls metric: no such list; did you mean metrics?"
