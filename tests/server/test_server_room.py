"""The server room's own rules: light interface, no client, no long file."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

from tests.server.running_server import ROOT, RunningServer

FILES = sorted((ROOT / "server").rglob("*.py"))


def test_the_server_imports_no_client() -> None:
    assert FILES
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            assert not any(name.startswith("statebridge_client") for name in names), path


@pytest.mark.slow
def test_the_interface_loads_no_models_library() -> None:
    """The process that answers requests stays small and starts soon; torch is the worker's."""
    code = (
        "import sys, statebridge_server.serve, statebridge_server.commands;"
        "late = {'torch', 'transformers', 'nnsight', 'scipy.stats'};"
        "print(sorted(late & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        env=RunningServer(ROOT, {}).environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stdout.strip() == "[]"


def test_no_file_is_a_junk_drawer_and_none_is_long() -> None:
    for path in FILES:
        assert path.stem not in {"utils", "helpers", "common", "misc", "util"}, path
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 500, path
