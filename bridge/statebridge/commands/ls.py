"""`statebridge ls`: the names that an experiment file may use."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from importlib.util import find_spec
from shutil import get_terminal_size
from textwrap import fill
from typing import Annotated

import typer

from statebridge.commands.options import AsJson
from statebridge.errors import InputError, nearest


def ls(
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="[WHAT]",
            help="conditions, presets, sources, channels, tasks, scoring, translators, metrics, "
            "families, executors, formats or trackers; the names of all if not given.",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the names that an experiment file may use, with a line on each."""
    if what is not None and what not in _LISTS:
        raise InputError(f"ls {what}: no such list; {nearest(what, _LISTS)}")
    found = {
        name: listed()
        for name, listed in _LISTS.items()
        if what in (None, name) and (name not in _WITH_ENGINE or _engine_is_there())
    }
    if as_json:
        print(json.dumps(found if what is None else found.get(what, {}), indent=2))
        return
    if what is not None and what not in found:
        raise InputError(f"ls {what}: needs the engine; pip install 'statebridge[engine]'")
    wrapped = partial(fill, width=get_terminal_size().columns, break_on_hyphens=False)
    for name, lines in found.items():
        if what is None:
            print(wrapped(f"{name}: {', '.join(lines)}", subsequent_indent="  "))
            continue
        for entry, line in lines.items():
            print(wrapped(f"{entry}  {line}", subsequent_indent="    "))


def _conditions() -> dict[str, str]:
    from statebridge.experiment.presets import CONDITIONS
    from statebridge.tables.condition_words import condition_words

    return {name: f"{c.role}: {condition_words(c)}" for name, c in CONDITIONS.items()}


def _presets() -> dict[str, str]:
    from statebridge.experiment.presets import PRESETS

    return {name: ", ".join(c.name for c in conditions) for name, conditions in PRESETS.items()}


def _sources() -> dict[str, str]:
    from statebridge.experiment.sources import SOURCES

    return _described(SOURCES.names(), SOURCES.values())


def _channels() -> dict[str, str]:
    from statebridge.channels.channel import CHANNELS

    return _described(CHANNELS.names(), CHANNELS.values())


def _executors() -> dict[str, str]:
    from statebridge.engine.executors.executor import EXECUTORS

    return _described(EXECUTORS.names(), EXECUTORS.values())


def _tasks() -> dict[str, str]:
    from statebridge.experiment.dataset import TASKS

    return _described(TASKS.names(), TASKS.values())


def _scoring() -> dict[str, str]:
    from statebridge.scoring.conventions import CONVENTIONS

    return _described(CONVENTIONS.names(), CONVENTIONS.values())


def _translators() -> dict[str, str]:
    from statebridge.experiment.translator_settings import KINDS, SOLVED

    kinds = {
        name: f"{_first_line(kind.build)} ({kind.source})"
        for name, kind in zip(KINDS.names(), KINDS.values(), strict=True)
    }
    return {name: _SOLVED[name] for name in SOLVED} | kinds


def _metrics() -> dict[str, str]:
    from statebridge.scoring import MEASURES

    return {
        name: f"{measure.header}; {measure.better} is better" if measure.better else measure.header
        for name, measure in MEASURES.items()
    }


def _formats() -> dict[str, str]:
    from statebridge.results.formats import RESULT_FORMATS
    from statebridge.tables.formats import ENDINGS

    written = _described(RESULT_FORMATS.names(), map(type, RESULT_FORMATS.values()))
    return written | {name: f"Tables, {ending} files." for name, ending in ENDINGS.items()}


def _trackers() -> dict[str, str]:
    from statebridge.sharing.tracking import TRACKERS

    return _described(TRACKERS.names(), TRACKERS.values())


def _families() -> dict[str, str]:
    from statebridge.models.families import FAMILIES

    return {
        name: f"blocks at {family.blocks}, {family.positions} positions"
        + (", keys of a prompt shared by its lanes" if family.lane_attention else "")
        for name, family in FAMILIES.items()
    }


_LISTS: Mapping[str, Callable[[], dict[str, str]]] = {
    "conditions": _conditions,
    "presets": _presets,
    "sources": _sources,
    "channels": _channels,
    "tasks": _tasks,
    "scoring": _scoring,
    "translators": _translators,
    "metrics": _metrics,
    "families": _families,
    "executors": _executors,
    "formats": _formats,
    "trackers": _trackers,
}
_SOLVED = {
    "ridge": "An affine map by least squares, with a penalty on its size.",
    "procrustes": "A rotation, one scale and a shift, by singular values.",
}
_WITH_ENGINE = frozenset({"channels", "families", "executors"})


def _engine_is_there() -> bool:
    return find_spec("torch") is not None


def _described(names: Iterable[str], things: Iterable[object]) -> dict[str, str]:
    return {name: _first_line(thing) for name, thing in zip(names, things, strict=True)}


def _first_line(thing: object) -> str:
    return (inspect.getdoc(thing) or "").partition("\n")[0]
