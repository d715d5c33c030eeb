"""The English check finds phrases to rewrite, and its numbers only fall."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from scripts import check_english

CLEAN = '''"""Read rows."""


def read(path: str) -> str:
    """Return the text; `told` is code, and the letter h stands for the state."""
    return path
'''
WRONG = '''"""What is read."""

said = 1  # the file stands beside it


def test_{}() -> None:
    """Of the receiver."""
'''


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(check_english, "ROOT", tmp_path)
    monkeypatch.setattr(check_english, "RATCHET", tmp_path / "ratchet.json")
    (tmp_path / "ratchet.json").write_text('{"tests": 5}')
    (tmp_path / "tests").mkdir()
    return tmp_path


def check(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["check_english.py", *words])
    return check_english.main()


def test_each_kind_of_phrase_is_found(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "tests" / "a.py").write_text(WRONG.format("x" * 60))
    assert check(monkeypatch, "--list", "tests/a.py") == 0
    lines = [line.split(":")[1] for line in capsys.readouterr().out.splitlines()]
    assert sorted(lines) == ["1", "3", "3", "6", "7"]


def test_code_and_right_uses_are_left_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "bridge").mkdir()
    (folder / "bridge" / "a.py").write_text(CLEAN)
    (folder / "README.md").write_text("It can tell two cells apart.\n```sh\ntold\n```\n")
    assert check(monkeypatch) == 0


def test_one_phrase_more_than_allowed_fails(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "tests" / "a.py").write_text(WRONG.format("x" * 60))
    assert check(monkeypatch) == 0
    (folder / "tests" / "b.md").write_text("Whoever reads this.\n")
    assert check(monkeypatch) == 1


def test_an_update_lowers_the_numbers_only(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "tests" / "a.py").write_text(WRONG.format("short"))
    assert check(monkeypatch, "--update") == 0
    assert json.loads((folder / "ratchet.json").read_text()) == {"tests": 4}
    (folder / "tests" / "b.md").write_text("Whoever reads this.\n")
    assert check(monkeypatch, "--update") == 0
    assert json.loads((folder / "ratchet.json").read_text()) == {"tests": 4}
