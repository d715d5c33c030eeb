"""The commands of docs/sharing.md, as written: with trackers that record, and a hub on loopback."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from statebridge.commands import main
from statebridge.sharing.tracking import TRACKERS, LoggedRun
from tests.bridge.pages.made_runs import made_run
from tests.bridge.sharing.hub_stand_in import hub_of
from tests.docs.recipe_steps import recipe_steps
from tests.test_docs import ROOT, commands

PAGE = ROOT / "docs" / "sharing.md"


def test_every_command_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made_run(tmp_path / "runs" / "forward")
    for name, text in recipe_steps(PAGE).files.items():
        Path(name).write_text(text, "utf-8")
    logged = []

    def recorder(run: LoggedRun, project: str) -> str:
        logged.append(project)
        return "here"

    monkeypatch.setattr("statebridge.sharing.tracking.write_page", lambda results, file, _: file)
    for name in TRACKERS.names():
        monkeypatch.setitem(TRACKERS._things, name, recorder)
    monkeypatch.delitem(sys.modules, "lines", raising=False)
    try:
        with hub_of(monkeypatch, tmp_path / "cache"):
            for line in commands(PAGE):
                monkeypatch.setattr(sys, "argv", shlex.split(line))
                main()
    finally:
        TRACKERS._things.pop("lines", None)
        sys.modules.pop("lines", None)
    assert logged == ["statebridge", "channels", "channels"]
    assert "replace/word_boundary_contains 0.5" in Path("means.txt").read_text("utf-8")
