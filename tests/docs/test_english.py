"""The English check finds phrases to rewrite, and leaves right ones alone."""

from __future__ import annotations

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
    monkeypatch.setattr(sys, "argv", ["check_english.py"])
    (tmp_path / "tests").mkdir()
    return tmp_path


def test_each_kind_of_phrase_is_found(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "tests" / "a.py").write_text(WRONG.format("x" * 60))
    assert check_english.main() == 1
    lines = [line.split(":")[1] for line in capsys.readouterr().out.splitlines()]
    assert sorted(lines) == ["1", "3", "3", "6", "7"]


def test_code_and_right_uses_are_left_alone(folder: Path) -> None:
    (folder / "tests" / "a.py").write_text(CLEAN)
    (folder / "README.md").write_text("It can tell two cells apart.\n```sh\ntold\n```\n")
    assert check_english.main() == 0


def test_only_the_named_place_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "tests" / "a.py").write_text(CLEAN)
    (folder / "README.md").write_text("Whoever reads this.\n")
    monkeypatch.setattr(sys, "argv", ["check_english.py", "tests/"])
    assert check_english.main() == 0
    monkeypatch.setattr(sys, "argv", ["check_english.py", "README.md"])
    assert check_english.main() == 1
