"""Plug-ins: a Python file of a user whose decorators add parts, and what a run records of them."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Mapping
from importlib.util import module_from_spec, spec_from_file_location
from inspect import getsource
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

from statebridge.errors import InputError
from statebridge.registry import registries

_imported: dict[Path, bytes] = {}


def load_plugin(file: str | Path) -> ModuleType:
    """Import a Python file that adds channels, sources, tasks or other parts by their decorators.

        statebridge.load_plugin("opposite.py")

    Only what the person at this machine names is imported: nothing of an experiment file or of a
    request leads here. A file that was imported before is not imported again.

    Raises:
        InputError: No such file, it is no Python file, its name is that of another module, or it
            fails while it is imported.
        StatebridgeError: A part has the name of another one.
    """
    path = Path(file).expanduser().resolve()
    spec = spec_from_file_location(path.stem, path) if path.suffix == ".py" else None
    if spec is None or spec.loader is None or not path.is_file():
        raise InputError(f"plug-in {file}: no such Python file; give a path that ends in .py")
    earlier = sys.modules.get(path.stem)
    if earlier is not None:
        if _file_of(earlier) == path:
            return earlier
        raise InputError(
            f"plug-in {file}: a module {path.stem} is imported already; give the file another name"
        )
    module = module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[path.stem]
        raise _fault(file, _line_of(error, path), error) from error
    for registry in registries():
        if registry.added_elsewhere():
            registry.names()  # imports ours, which refuses a name that both give
    _imported[path] = path.read_bytes()
    return module


def plugin_fault(error: Exception) -> InputError | None:
    """Return an error that passed through the code of a plug-in as one that names file and line.

    None where no plug-in of this process took part in it.
    """
    found = ((path, _line_of(error, path)) for path in _imported)
    return next((_fault(path.name, line, error) for path, line in found if line), None)


def _fault(file: str | Path, line: str, error: BaseException) -> InputError:
    message = " ".join(str(error).split())
    return InputError(f"plug-in {file}{line}: {type(error).__name__}: {message}; repair the file")


def plugin_texts() -> dict[str, bytes]:
    """Return the text of each plug-in that was imported here, by file name, for other processes."""
    return {path.name: text for path, text in _imported.items()}


def load_plugin_texts(texts: Mapping[str, bytes]) -> TemporaryDirectory[str] | None:
    """Import plug-ins of another process of the same user; return the folder that holds them.

    None where there are none. Raises as `load_plugin` does.
    """
    if not texts:
        return None
    folder = TemporaryDirectory(prefix="statebridge-plugins-")
    for name, text in texts.items():
        file = Path(folder.name) / name
        file.write_bytes(text)
        load_plugin(file)
    return folder


def parts_added(declared: Any) -> dict[str, str]:
    """Return what an experiment uses that is not part of Statebridge.

    Args:
        declared: The experiment, as plain data. A part is used where its name occurs in it.

    Returns:
        The SHA-256 of each part's file by kind and name of the part: "source opposite". Of a part
        that was defined in a notebook, that of its own source.

    Raises:
        InputError: A part was defined at a prompt, which keeps no source.
    """
    names = set(_strings(declared))
    return {
        f"{registry.kind} {name}": _sha256(thing, f"{registry.kind} {name}")
        for registry in registries()
        for name, thing in registry.added_elsewhere().items()
        if name in names
    }


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from _strings(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _strings(part)


def _sha256(thing: Any, what: str) -> str:
    module = sys.modules.get(getattr(thing, "__module__", type(thing).__module__))
    file = None if module is None else _file_of(module)
    if file:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    try:
        # What a decorator made of a function is known by the function.
        source = getsource(getattr(thing, "__wrapped__", thing))
    except (OSError, TypeError):
        raise InputError(
            f"{what}: its code cannot be read where it was defined, at a prompt; put it into a file"
        ) from None
    return hashlib.sha256(source.encode()).hexdigest()


def _file_of(module: ModuleType) -> Path | None:
    file = getattr(module, "__file__", None)
    return Path(file).resolve() if file else None


def _line_of(error: BaseException, path: Path) -> str:
    """Return the line of the file through which an error passed; nothing where there is none."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f", line {error.lineno}"
    line, trace = "", error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            line = f", line {trace.tb_lineno}"
        trace = trace.tb_next
    return line
