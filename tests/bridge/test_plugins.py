"""Plug-ins: a file of one's own is imported by name, and a run records what it used of it."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from statebridge.commands import app as command
from statebridge.commands.app import app
from statebridge.errors import InputError
from statebridge.experiment.sources import SOURCES
from statebridge.plugins import (
    load_plugin,
    load_plugin_texts,
    parts_added,
    plugin_fault,
    plugin_texts,
)

SOURCE = '''
from statebridge.experiment.sources import SOURCES, Source


@SOURCES.add("halved_for_test")
class Halved(Source):
    """The row's translated states, halved."""

    role = "control"
    seeded = reads_sender = translates = True

    def states(self, request):
        states, prompts = request.translated_states(request.rows)
        return states / 2, prompts
'''


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "halved_for_test.py"
    path.write_text(SOURCE, encoding="utf-8")
    yield path
    sys.modules.pop(path.stem, None)
    SOURCES._things.pop("halved_for_test", None)


def test_a_plugin_adds_its_part_once(file: Path) -> None:
    assert load_plugin(file) is load_plugin(str(file))
    assert "halved_for_test" in SOURCES


def test_another_process_imports_a_plugin_from_its_text(file: Path) -> None:
    load_plugin(file)
    texts = {file.name: plugin_texts()[file.name]}
    # As another process is: without the module, and without the file.
    sys.modules.pop(file.stem)
    SOURCES._things.pop("halved_for_test")
    file.unlink()
    folder = load_plugin_texts(texts)
    assert folder is not None
    assert "halved_for_test" in SOURCES
    source = hashlib.sha256(SOURCE.encode()).hexdigest()
    assert parts_added(["halved_for_test"]) == {"source halved_for_test": source}
    folder.cleanup()


def test_the_command_line_takes_a_plugin(file: Path) -> None:
    found = CliRunner().invoke(app, ["--plugin", str(file), "ls", "sources"])
    assert "halved_for_test  The row's translated states, halved." in found.stdout


def test_a_used_part_is_recorded_with_the_hash_of_its_file(file: Path) -> None:
    load_plugin(file)
    declared: dict[str, Any] = {"conditions": [{"name": "x", "source": "halved_for_test"}]}
    digest = hashlib.sha256(SOURCE.encode()).hexdigest()
    assert parts_added(declared) == {"source halved_for_test": digest}
    assert parts_added({"conditions": ["replace"]}) == {}


def test_no_part_of_ours_is_recorded() -> None:
    """Whatever it is made of, and whichever registries were read before."""
    from statebridge.validation.expectation import EXPECTATIONS

    assert "published-strict" in EXPECTATIONS.names()  # a `functools.partial`
    assert EXPECTATIONS.added_elsewhere() == {}
    assert parts_added({"conditions": "published-strict"}) == {}


def test_an_error_within_a_plugin_is_one_line_with_its_place(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(SOURCE.replace("return states / 2, prompts", 'raise RuntimeError("a\\nb")'))
    states = vars(load_plugin(file))["Halved"]().states
    request = SimpleNamespace(rows=[], translated_states=lambda rows: (rows, rows))
    monkeypatch.setattr(command, "app", lambda **_: states(request))
    with pytest.raises(SystemExit) as stopped:
        command.main()
    assert stopped.value.code == 2
    line = f"error: plug-in {file.name}, line 14: RuntimeError: a b; repair the file\n"
    assert capsys.readouterr().err == line
    assert plugin_fault(RuntimeError("of others")) is None


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("absent.py", None, "no such Python file; give a path that ends in .py"),
        ("notes.txt", "", "no such Python file"),
        ("json.py", "", "a module json is imported already; give the file another name"),
        ("wrong_for_test.py", "x = 1\ny = x.none\n", "line 2: AttributeError"),
        ("unread_for_test.py", "x = = 1\n", "line 1: SyntaxError"),
        ("lines_for_test.py", 'raise ValueError("a\\nb")', "line 1: ValueError: a b; repair"),
        ("exit_for_test.py", "raise SystemExit(3)", "line 1: SystemExit: 3; repair the file"),
    ],
)
def test_a_file_that_is_no_plugin_is_refused(
    tmp_path: Path, name: str, text: str | None, words: str
) -> None:
    path = tmp_path / name
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        load_plugin(path)
    assert words in str(caught.value)
    assert sys.modules.get(path.stem) is sys.modules.get("json" if name == "json.py" else "")
