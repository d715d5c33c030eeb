"""The arrows between the rooms: the whole list, and no circle; the light half needs no torch."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from functools import cache
from graphlib import CycleError, TopologicalSorter
from importlib.metadata import packages_distributions, requires
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import statebridge

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = ROOT / "bridge" / "statebridge"
ENGINE_PACKAGES = {"torch", "transformers", "nnsight", "safetensors", "psutil", "tokenizers"}

# Which rooms each room imports from, from the ground up: a room may use those above it here.
# A new arrow is a decision; it is made here and in docs/architecture.md.
ARROWS: dict[str, str] = {
    "errors": "",
    "progress": "",
    "registry": "errors",
    "plugins": "errors registry",
    "experiment": "errors registry",
    "records": "experiment",
    "cost": "errors",
    "data": "errors records",
    "tasks": "errors experiment records data",
    "scoring": "errors registry experiment records data",
    "runs": "errors experiment records data",
    "results": "errors registry experiment records cost data scoring runs",
    "stats": "errors registry experiment records scoring results",
    "validation": "errors registry experiment records",
    "audit": "errors records data scoring",
    "papers": "errors experiment records data scoring runs results stats validation",
    "demo": "errors",
    "tables": "errors experiment records data scoring results stats",
    "interchange": "errors experiment records data scoring results tables",
    "figures": "errors experiment records data scoring results stats audit tables",
    "report": (
        "errors experiment records data scoring runs results stats validation audit tables figures"
    ),
    "pages": (
        "errors experiment records data scoring runs results stats validation tables figures report"
    ),
    "sharing": "errors registry records data scoring runs results tables report",
    "models": "errors experiment cost",
    "translators": "errors experiment data results",
    "channels": "errors registry experiment records runs models translators",
    "engine": (
        "errors registry plugins experiment records data tasks scoring runs results demo models "
        "translators channels"
    ),
    "actions": "errors progress experiment tasks results stats models translators engine",
    # It keeps rows that are given in memory as a file of the run's directory.
    "run": (
        "errors progress experiment data scoring runs results stats validation tables report "
        "sharing engine actions"
    ),
    "commands": (
        "errors progress plugins experiment data tasks scoring results stats validation audit "
        "papers tables figures report pages sharing models channels engine actions run"
    ),
}
# The same for the wings of the engine. Decoding asks for CUDA graphs inside of a function, where
# the device is a GPU.
WINGS: dict[str, str] = {
    "decoding": "",
    "cuda_graphs": "decoding",
    "planning": "decoding",
    "reuse": "",
    "cluster": "",
    # A plan that was sent is made ready on another pair.
    "executors": "decoding planning cluster",
    "commit": "reuse executors",
    "layer_captures": "planning",
    # Maps are fitted, and checks inside the sender made, on actors too.
    "fitting": "planning reuse executors cluster layer_captures",
    "similarity": "planning fitting",
    "sender_checks": "planning executors similarity cluster",
    "capture": "",
    "cautions": "",
    "manifest": "reuse",
    "probe": "planning executors",
    "row_check": "planning executors",
    "run_experiment": (
        "planning reuse executors commit fitting sender_checks cautions manifest probe row_check"
    ),
    "layer_search": "executors commit layer_captures run_experiment",
    "doctor": "planning executors fitting sender_checks cautions layer_search",
}

# Rooms of the heavy half. `channels.sources` is imported by the light half too, for the facts
# that a condition asks of its source.
HEAVY_ROOMS = {"models", "translators", "channels", "engine"}


def _is_heavy(module: str) -> bool:
    """Whether `statebridge.<module>` belongs to the heavy half."""
    if module == "channels" or module.startswith("channels.sources"):
        return False
    return module.split(".", maxsplit=1)[0] in HEAVY_ROOMS


def _imported_names(path: Path, *, later: bool = False) -> set[str]:
    """Modules and `module.name` that a file imports when it is imported.

    Imports for the type checker alone do not count; those inside functions count if `later`.
    """
    found: set[str] = set()
    pending: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) and not later:
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            pending += node.orelse
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        pending += ast.iter_child_nodes(node)
    return found


def _arrows(folder: Path, prefix: str, *, later: bool) -> dict[str, set[str]]:
    """Which parts of a folder import from which others, by their first name below `prefix`."""
    parts = {path.stem for path in folder.glob("*.py")} | {
        path.name for path in folder.iterdir() if (path / "__init__.py").is_file()
    }
    arrows: dict[str, set[str]] = {}
    for path in sorted(folder.rglob("*.py")):
        own = path.relative_to(folder).parts[0].removesuffix(".py")
        if own in {"__init__", "__main__"}:
            continue
        for name in _imported_names(path, later=later):
            other = name.removeprefix(prefix).split(".")[0]
            if name.startswith(prefix) and other in parts and other != own:
                arrows.setdefault(own, set()).add(other)
    return arrows


def _check_arrows(declared: dict[str, str], found: dict[str, set[str]]) -> None:
    order = list(declared)
    for room, allowed in declared.items():
        assert set(allowed.split()) == found.get(room, set()), f"arrows of {room}"
        for other in allowed.split():
            assert order.index(other) < order.index(room), f"{room} is above {other}"
    assert set(found) <= set(declared)


def test_the_arrows_between_rooms_are_the_declared_ones() -> None:
    _check_arrows(ARROWS, _arrows(LIBRARY, "statebridge.", later=True))


def test_the_arrows_between_wings_are_the_declared_ones() -> None:
    _check_arrows(WINGS, _arrows(LIBRARY / "engine", "statebridge.engine.", later=False))


def test_no_files_import_each_other_in_a_circle() -> None:
    files = {f"statebridge.{_name(path)}".rstrip("."): path for path in _files("bridge")}
    graph = {
        name: {other for other in _imported_names(path) if other in files and other != name}
        for name, path in files.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def _files(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


def _name(path: Path) -> str:
    relative = path.relative_to(LIBRARY).with_suffix("")
    return ".".join(part for part in relative.parts if part != "__init__")


LIGHT = [path for path in _files("bridge/statebridge") if not _is_heavy(_name(path))]


@pytest.mark.parametrize("path", LIGHT, ids=_name)
def test_the_light_half_imports_no_engine(path: Path) -> None:
    for module in _imported_names(path):
        assert module.split(".")[0] not in ENGINE_PACKAGES, module
        if module.startswith("statebridge."):
            assert not _is_heavy(module.removeprefix("statebridge.")), module


def test_the_library_imports_neither_client_nor_server() -> None:
    for path in _files("bridge/statebridge"):
        for module in _imported_names(path):
            assert not module.startswith(("statebridge_client", "statebridge_server")), path


def test_the_client_imports_the_light_half_only() -> None:
    for path in _files("client"):
        for module in _imported_names(path):
            assert not module.startswith("statebridge_server"), path
            assert module.split(".")[0] not in ENGINE_PACKAGES, path
            if module.startswith("statebridge."):
                assert not _is_heavy(module.removeprefix("statebridge.")), (path, module)


def test_the_server_does_not_import_the_client() -> None:
    for path in _files("server"):
        for module in _imported_names(path):
            assert not module.startswith("statebridge_client"), path


ONLY_BASE = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {absent!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
"""


@cache
def _absent() -> set[str]:
    """Return what can be imported here and is neither of the base install nor ours."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    pending, base = [*declared["dependencies"]], {declared["name"]}
    while pending:
        needed = Requirement(pending.pop())
        name = canonicalize_name(needed.name)
        extras = [{"extra": extra} for extra in ("", *needed.extras)]
        here = needed.marker is None or any(needed.marker.evaluate(one) for one in extras)
        if here and name not in base:
            base.add(name)
            pending += requires(name) or []
    return {
        module
        for module, owners in packages_distributions().items()
        if not base & {canonicalize_name(owner) for owner in owners}
    } | ENGINE_PACKAGES


def _run_with_the_base_install(
    code: str, *arguments: str | Path
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", ONLY_BASE.format(absent=_absent()) + code, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_running_without_the_engine_says_what_to_install(tmp_path: Path) -> None:
    file = tmp_path / "e.yaml"
    file.write_text(
        "name: x\nsender: {model: a, layer: 1}\nreceiver: {model: b, layer: 1}\n"
        "dataset: {generate: {rows: 2}}\nconditions: [no_inject]\n"
    )
    code = (
        "import sys; from statebridge.commands import main\n"
        f"sys.argv = ['statebridge', 'run', {str(file)!r}, '--out', {str(tmp_path / 'out')!r}]\n"
        "main()"
    )
    done = _run_with_the_base_install(code)
    assert done.returncode == 3
    assert done.stderr.startswith("error: ")
    assert "statebridge[engine]" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_wheel_works_with_the_base_install(tmp_path: Path) -> None:
    """All of its modules, files and commands, with nothing but the base dependencies."""
    pytest.importorskip("setuptools", "77", reason="it builds the wheel")
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index"),
            *("--no-build-isolation", "--wheel-dir", tmp_path, ROOT),
        ],
        timeout=120,
        check=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with ZipFile(wheel) as files:
        files.extractall(tmp_path / "installed")
        packed = {name for name in files.namelist() if not name.endswith("RECORD")}
    tracked = {
        path.relative_to(folder.parent).as_posix()
        for folder in (
            LIBRARY,
            ROOT / "client" / "statebridge_client",
            ROOT / "server" / "statebridge_server",
        )
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert not tracked - packed
    names = [".".join(filter(None, ("statebridge", _name(path)))) for path in LIGHT]
    code = (
        "import importlib; from importlib.metadata import distribution\n"
        "folder, out = sys.argv[1:]\nsys.path.insert(0, folder)\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
        "import statebridge_client.client; assert statebridge_client.__file__.startswith(folder)\n"
        "(command,) = distribution('statebridge').entry_points.select(group='console_scripts')\n"
        "sys.argv = ['statebridge', 'dataset', 'generate', '--rows', '5', '--out', out]\n"
        "command.load()()"
    )
    made = _run_with_the_base_install(code, tmp_path / "installed", tmp_path / "rows.jsonl")
    assert "5 rows written" in made.stdout, made.stderr


def test_public_names_exist() -> None:
    pytest.importorskip("torch", reason="the base install has no engine")
    assert {"Run", "capture", "fit", "layer_search", "open_run", "run"} <= set(statebridge.__all__)
    assert statebridge.__version__
    for name in statebridge.__all__:
        assert getattr(statebridge, name).__name__ == name


def test_no_file_is_a_junk_drawer_and_none_is_long() -> None:
    for path in [*_files("bridge/statebridge"), *_files("client"), *_files("server")]:
        assert path.stem not in {"utils", "helpers", "common", "misc", "util"}, path
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 500, path
