"""The CUDA-graph path is apart: the CPU's path imports none of it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import statebridge

ROOT = Path(statebridge.__file__).parent
PACKAGE = "statebridge.engine.cuda_graphs"
SEAM = ROOT / "engine" / "decoding" / "steps.py"


def _imports(nodes: list[ast.AST]) -> set[str]:
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


@pytest.mark.slow
def test_only_the_seam_imports_it_and_only_in_functions() -> None:
    users = set()
    for path in ROOT.rglob("*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        if path.is_relative_to(ROOT / "engine" / "cuda_graphs"):
            # No circle: the seam knows the package, not the package the seam.
            assert "statebridge.engine.decoding.steps" not in _imports(list(ast.walk(tree))), path
            continue
        if any(name.startswith(PACKAGE) for name in _imports(list(ast.walk(tree)))):
            users.add(path)
        assert not any(name.startswith(PACKAGE) for name in _imports(list(tree.body))), path
    assert users == {SEAM}
