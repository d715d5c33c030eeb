"""The choice of `make` between uv and pip, and the announcement before anything is fetched."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from scripts import install
from scripts.install import CPU_BUILD, GPU_BUILD, TORCH_INDEX, Machine, announcement, commands

ROOT = Path(__file__).resolve().parents[1]
VENV = Path("somewhere")


@pytest.mark.parametrize(
    ("machine", "tool", "options", "build"),
    [
        (Machine("/bin/uv", False, True, True), "uv", ["--torch-backend=auto"], CPU_BUILD),
        (Machine("/bin/uv", True, True, True), "uv", ["--torch-backend=auto"], GPU_BUILD),
        (Machine("/bin/uv", False, False, True), "uv", [], "this machine's index"),
        (Machine(None, False, True, True), "pip", ["--extra-index-url", TORCH_INDEX], CPU_BUILD),
        (Machine(None, True, True, True), "pip", [], GPU_BUILD),
        (Machine(None, False, False, True), "pip", [], "this machine's index"),
        (Machine(None, False, True, False), "pip", [], CPU_BUILD),
    ],
)
def test_the_choice_of_tool_and_of_torch(
    machine: Machine, tool: str, options: list[str], build: str
) -> None:
    made, filled = commands(machine, VENV)
    assert str(VENV) in made
    assert filled[0] == ("/bin/uv" if tool == "uv" else str(VENV / "bin" / "python"))
    known = ("--torch-backend=auto", "--extra-index-url", TORCH_INDEX)
    assert [word for word in filled if word in known] == options
    # One lock for all of them.
    assert filled[filled.index("--constraint") + 1] == str(ROOT / "constraints.txt")
    announced = announcement(machine)
    assert announced.startswith(f"Installing with {tool}: ")
    assert build in announced


def test_what_is_fetched_is_said_first(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine = Machine(None, True, False, True)
    ran: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        assert capsys.readouterr().out or ran
        ran.append(command)
        return subprocess.CompletedProcess(command, 3 if "pip" in command else 0)

    monkeypatch.setattr(Machine, "here", classmethod(lambda _: machine))
    monkeypatch.setattr(install.subprocess, "run", run)
    assert install.main([str(VENV)]) == 3
    assert ran == commands(machine, VENV)


def test_another_python_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 14, 0))
    assert install.main([str(VENV), "--dry-run"]) == 1
    assert "3.11 to 3.13" in capsys.readouterr().err


def test_make_installs_with_this_script() -> None:
    done = subprocess.run(
        ["make", "--dry-run", "--always-make", "check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "python3 scripts/install.py .venv" in done.stdout
