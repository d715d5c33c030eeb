"""Named conditions, and presets made of them: data in `presets.yaml` files.

Ours lie beside this module; each paper's lie in its folder of `statebridge.papers` and are
found there. A file has `conditions` (by name), `presets` (lists of names of conditions, or of
other presets), and `published: true` where its conditions come first in tables and figures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple, TypeVar

import yaml

from statebridge.errors import ExperimentError, nearest
from statebridge.experiment.conditions import Condition, DeclaredCondition, UnknownCondition

V = TypeVar("V")
FILE = "presets.yaml"


class _Named(NamedTuple):
    conditions: dict[str, Condition]
    published: dict[str, Condition]
    presets: dict[str, tuple[Condition, ...]]


class _Loaded(Mapping[str, V]):
    """A part of what the files hold, which are read when it is first used."""

    def __init__(self, part: Callable[[_Named], dict[str, V]]) -> None:
        self._part = part

    def __getitem__(self, name: str) -> V:
        return self._part(_named())[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._part(_named()))

    def __len__(self) -> int:
        return len(self._part(_named()))


CONDITIONS: Mapping[str, Condition] = _Loaded(lambda named: named.conditions)
"""Every named condition; a condition declared in an experiment file may not reuse a name."""

PUBLISHED: Mapping[str, Condition] = _Loaded(lambda named: named.published)
"""The conditions of the papers whose files say `published: true` (arXiv 2606.03280)."""

PRESETS: Mapping[str, tuple[Condition, ...]] = _Loaded(lambda named: named.presets)
"""Lists of conditions by name."""


@cache
def _named() -> _Named:
    ours = files("statebridge") / "experiment" / FILE
    papers = sorted((files("statebridge") / "papers").iterdir(), key=lambda folder: folder.name)
    theirs = [folder / FILE for folder in papers if (folder / FILE).is_file()]
    read: list[dict[str, Any]] = [
        yaml.safe_load(file.read_text(encoding="utf-8")) for file in (ours, *theirs)
    ]
    read.sort(key=lambda content: not content.get("published", False))
    conditions: dict[str, Condition] = {}
    published: dict[str, Condition] = {}
    presets: dict[str, list[str]] = {}
    for content in read:
        for name, declared in content["conditions"].items():
            if name in conditions:
                raise ValueError(f"{FILE}: two files define the condition {name}")
            conditions[name] = Condition.model_validate({"name": name, **declared})
            if content.get("published", False):
                published[name] = conditions[name]
        presets |= content["presets"]

    def members(preset: str) -> Iterator[Condition]:
        for name in presets[preset]:
            yield from members(name) if name in presets else (conditions[name],)

    return _Named(conditions, published, {name: tuple(members(name)) for name in presets})


def named_condition(name: str) -> DeclaredCondition:
    """Return the condition of a name; one of which nothing else is known, if it is no preset's."""
    return CONDITIONS.get(name) or UnknownCondition(name)


def resolve_conditions(declared: str | list[str | Condition]) -> tuple[Condition, ...]:
    """Turn preset names, condition names and condition objects into conditions, in order.

    A condition that several presets have is taken once, where it comes first.

    Raises:
        ExperimentError: unknown name (nearest ones offered), a name written twice, or a
            condition object that takes a published name with another meaning.
    """
    resolved: dict[str, Condition] = {}
    written: set[str] = set()
    for item in [declared] if isinstance(declared, str) else declared:
        name = item if isinstance(item, str) else item.name
        if isinstance(item, Condition):
            known = CONDITIONS.get(item.name)
            if known is not None and known != item:
                kind = "published" if item.name in PUBLISHED else "named"
                raise ExperimentError(
                    f"conditions: {item.name} is a {kind} condition and cannot mean something "
                    f"else; give yours another name, such as {item.name}_variant"
                )
            group: tuple[Condition, ...] = (item,)
        elif item in PRESETS:
            group = PRESETS[item]
        elif item in CONDITIONS:
            group = (CONDITIONS[item],)
        else:
            raise ExperimentError(
                f"conditions: unknown condition or preset {item!r}; "
                f"{nearest(item, [*PRESETS, *CONDITIONS])}"
            )
        for condition in group:
            if resolved.setdefault(condition.name, condition) != condition:
                raise ExperimentError(f"conditions: two conditions are named {condition.name}")
        if name in written:
            raise ExperimentError(f"conditions: {name} is listed twice")
        written.add(name)
    if not resolved:
        raise ExperimentError("conditions: the list is empty; name at least one, or a preset")
    return tuple(resolved.values())
