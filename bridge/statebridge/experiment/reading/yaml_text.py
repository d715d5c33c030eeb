"""YAML and JSON text as plain values, with the line of each field; what is ambiguous is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import yaml

from statebridge.errors import ExperimentError, Mistake

Lines = Mapping[tuple[str, ...], int]
"""Line of each field, counted from 1; indices of lists are text too."""

_MOST_NODES = 10_000


class _Loader(yaml.SafeLoader):
    """A safe loader that refuses duplicate keys, and numbers that YAML 1.1 reads otherwise."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[str] = set()
    for key_node, _ in node.value:
        if key_node.tag == "tag:yaml.org,2002:merge":
            continue
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str | int) or isinstance(key, bool):
            raise yaml.constructor.ConstructorError(
                None, None, "a field name is not text", key_node.start_mark
            )
        # 42 and "42" are one seed to a reader.
        if str(key) in seen:
            raise yaml.constructor.ConstructorError(
                None, None, f"field {str(key)!r} is given twice", key_node.start_mark
            )
        seen.add(str(key))
    return dict(loader.construct_mapping(node, deep=True))


_OCTAL = re.compile(r"[-+]?0[0-9_]+")


def _number(loader: _Loader, node: yaml.ScalarNode) -> int | float:
    text = str(node.value)
    problem = None
    if _OCTAL.fullmatch(text):
        meant = text.replace("_", "").lstrip("+-").lstrip("0") or "0"
        problem = f"{text} is octal to some readers of YAML; write {meant}, or '{text}' as text"
    elif ":" in text:
        problem = f"{text} is a number of base 60 to some readers of YAML; write '{text}' as text"
    if problem is not None:
        raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
    if node.tag.endswith(":int"):
        return int(loader.construct_yaml_int(node))
    return float(loader.construct_yaml_float(node))


def _text(loader: _Loader, node: yaml.ScalarNode) -> str:
    return str(loader.construct_yaml_str(node))


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)
_Loader.add_constructor("tag:yaml.org,2002:int", _number)
_Loader.add_constructor("tag:yaml.org,2002:float", _number)
# A date is a name that somebody gave.
_Loader.add_constructor("tag:yaml.org,2002:timestamp", _text)


def read_yaml(text: str, where: str) -> tuple[Any, Lines]:
    """Return the value of YAML or JSON text, and the line of each field in it.

    Args:
        text: The text.
        where: Its file, for messages.

    Raises:
        ExperimentError: Neither; states line and column.
    """
    if text.lstrip().startswith("{"):
        with suppress(ValueError, RecursionError):
            # JSON is not quite YAML: it writes a sign beyond 16 bits as two.
            value = json.loads(text, object_pairs_hook=_distinct)
            lines: Lines = {}
            with suppress(yaml.YAMLError, ValueError, RecursionError):
                lines = _compose(text)[1]
            return value, lines
    try:
        node, lines = _compose(text)
        if node is None:
            return None, {}
        loader = _Loader("")
        try:
            return loader.construct_document(node), lines
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        refused = ExperimentError(f"{where}{line}: not valid YAML: {error.problem}")
        at = mark.line + 1 if mark else None
        refused.mistakes = (Mistake(at, "", f"not valid YAML: {error.problem}"),)
        raise refused from None
    except (yaml.YAMLError, ValueError) as error:
        raise ExperimentError(f"{where}: not valid YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise ExperimentError(f"{where}: nested too deeply to be an experiment") from None


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a field is given twice")  # YAML's reader says which, and where
    return found


def _compose(text: str) -> tuple[yaml.Node | None, dict[tuple[str, ...], int]]:
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        lines: dict[tuple[str, ...], int] = {}
        if node is not None:
            _collect_lines(node, (), lines, budget=[_MOST_NODES])
        return node, lines
    finally:
        loader.dispose()


def _collect_lines(
    node: yaml.Node,
    path: tuple[str, ...],
    lines: dict[tuple[str, ...], int],
    budget: list[int],
) -> None:
    # Aliases can make a small file expand without end; an experiment has no use for that.
    budget[0] -= 1
    if budget[0] < 0:
        raise yaml.constructor.ConstructorError(
            None, None, "too many nodes (aliases that expand?)", node.start_mark
        )
    lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                lines[(*path, key.value)] = key.start_mark.line + 1
                _collect_lines(value, (*path, key.value), lines, budget)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            _collect_lines(value, (*path, str(index)), lines, budget)


def kind(value: Any) -> str:
    """Name the type of a value as a reader of the file would."""
    names = {type(None): "nothing", list: "a list", dict: "fields", str: "text"}
    return names.get(type(value), "a single value")
