"""Which test files the base install can run: those that import no engine and no server.

The CI runs these on every system. Where torch is installed, nothing is left out.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EXTRAS = frozenset(
    {"nnsight", "psutil", "safetensors", "sqlalchemy", "statebridge_server", "tokenizers", "torch"}
    | {"IPython", "benchmarks", "nbformat", "ray", "transformers"}
)
HEAVY_ROOMS = frozenset({"channels", "engine", "models", "translators"})


def needs_extra() -> list[str]:
    """Return the test files and folders, relative to this folder, that need an extra."""
    files = [path for path in (ROOT / "tests").rglob("*.py") if _needs_extra(path)]
    # A folder goes as a whole where all its tests share such a fixture.
    found = [path.parent if path.name == "conftest.py" else path for path in files]
    return [str(path.relative_to(ROOT / "tests")) for path in found]


@cache
def _needs_extra(path: Path) -> bool:
    names: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return any(map(_is_extra, names))


def _is_extra(name: str) -> bool:
    first, _, rest = name.partition(".")
    if first == "tests":
        file = ROOT / f"{name.replace('.', '/')}.py"
        return file.is_file() and _needs_extra(file)
    return first in EXTRAS or (first == "statebridge" and rest.split(".")[0] in HEAVY_ROOMS)
