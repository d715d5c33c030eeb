"""Reading an experiment file: YAML or JSON, every mistake named with its line and field."""

from __future__ import annotations

import reprlib
from collections.abc import Iterator, Mapping
from pathlib import Path, PureWindowsPath
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from statebridge.errors import ExperimentError, nearest
from statebridge.experiment.conditions import Condition
from statebridge.experiment.experiment import Experiment

MAX_BYTES = 1_000_000
"""An experiment file is a page of text; anything larger is a mistake."""

Lines = dict[tuple[str | int, ...], int]


def load_experiment(path: str | Path, overrides: Mapping[str, Any] | None = None) -> Experiment:
    """Read an experiment file; relative paths in it are relative to the file.

    Args:
        path: A YAML or JSON file.
        overrides: Top-level fields (or `section.field`) to set after reading, as the
            command line's options do.

    Raises:
        ExperimentError: The file is missing, unreadable, not YAML, or declares something
            wrong; the message names file, line and field.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ExperimentError(f"{path}: larger than {MAX_BYTES} bytes; not an experiment file")
        text = path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise ExperimentError(
            f"{path}: no such file; give the path of an experiment file"
        ) from None
    except UnicodeDecodeError as error:
        raise ExperimentError(f"{path}: not UTF-8 text (byte {error.start})") from None
    except OSError as error:
        raise ExperimentError(f"{path}: cannot be read: {error.strerror}") from None
    return parse_experiment(text, where=str(path), folder=path.parent, overrides=overrides)


def parse_experiment(
    text: str,
    *,
    where: str = "experiment",
    folder: Path | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Experiment:
    """Parse an experiment from YAML or JSON text (JSON is YAML); see `load_experiment`."""
    data, lines = _parse_yaml(text, where)
    if not isinstance(data, dict):
        raise ExperimentError(f"{where}: holds {_kind(data)}; an experiment is a mapping of fields")
    for dotted, value in (overrides or {}).items():
        set_field(data, dotted, value, where)
    if folder is not None:
        _anchor_paths(data, folder)
    try:
        return Experiment.model_validate(data)
    except ValidationError as error:
        raise ExperimentError(_message(error, where, lines)) from None


class _Loader(yaml.SafeLoader):
    """A safe loader that keeps `fwd_seed42` text, refuses duplicate keys, and no more."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[str] = set()
    for key_node, _ in node.value:
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


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def _parse_yaml(text: str, where: str) -> tuple[Any, Lines]:
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None, {}
            lines: Lines = {}
            _collect_lines(node, (), lines, budget=[10_000])
            return loader.construct_document(node), lines
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ExperimentError(f"{where}{line}: not valid YAML: {error.problem}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise ExperimentError(f"{where}: not valid YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise ExperimentError(f"{where}: nested too deeply to be an experiment") from None


def _collect_lines(
    node: yaml.Node, path: tuple[str | int, ...], lines: Lines, budget: list[int]
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
            _collect_lines(value, (*path, index), lines, budget)


def set_field(data: dict[str, Any], dotted: str, value: Any, where: str) -> None:
    """Set a top-level field, or `section.field`, in place; sections that are missing are made.

    Raises:
        ExperimentError: A section on the way holds something else than fields.
    """
    *sections, last = dotted.split(".")
    for depth, key in enumerate(sections, start=1):
        inner = data.setdefault(key, {})
        if not isinstance(inner, dict):
            raise ExperimentError(
                f"{where}: {dotted} cannot be set: {'.'.join(sections[:depth])} holds "
                f"{_kind(inner)}, not fields; set the whole of it"
            )
        data = inner
    data[last] = value


def is_model_folder(model: str) -> bool:
    """Whether a model is a local folder: its name starts with `.`, `/`, `~` or a Windows drive.

    Any other name is the id of a model on the hub.
    """
    return model.startswith((".", "/", "~")) or PureWindowsPath(model).drive != ""


def _anchor_paths(data: dict[str, Any], folder: Path) -> None:
    """Make relative paths relative to the experiment file, in place."""

    def anchor(holder: Any, key: Any, *, only_if_marked: bool = False) -> None:
        if not isinstance(holder, dict) or not isinstance(holder.get(key), str):
            return
        text = holder[key]
        if only_if_marked and not is_model_folder(text):
            return
        holder[key] = str((folder / Path(text).expanduser()).absolute())

    for side in ("sender", "receiver"):
        anchor(data.get(side), "model", only_if_marked=True)
    for _, holder in declared_files(data):
        anchor(holder, "path")
    for translators in _translator_sets(data):
        if "fit" not in translators and "corpus" not in translators:  # a file for each seed
            for seed in translators:
                anchor(translators, seed)


def declared_files(data: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield each part that may name a file of rows or text, with its top-level field.

    These are the dataset and, for each fit, its corpus and the rows of `causal`, as they are
    declared, right or wrong.
    """
    yield "dataset", data.get("dataset")
    for declared in _translator_sets(data):
        fit = declared.get("fit", declared)
        if isinstance(fit, dict):
            yield "translators", fit.get("corpus")
            causal = fit.get("causal")
            yield "translators", causal.get("rows") if isinstance(causal, dict) else None


def _translator_sets(data: Mapping[str, Any]) -> Iterator[dict[Any, Any]]:
    declared = data.get("translators")
    if not isinstance(declared, dict):
        return
    sets = declared.get("sets", {"": declared})
    for each in sets.values() if isinstance(sets, dict) else ():
        if isinstance(each, dict):
            yield each


def _message(error: ValidationError, where: str, lines: Lines) -> str:
    errors = error.errors()
    first = max(errors, key=_precision)
    location = _field_path(first)
    problem = str(first["msg"]).removeprefix("Value error, ")
    if not location:  # a check over several fields names the one that is wrong itself
        named, colon, rest = problem.partition(": ")
        parts = tuple(named.split("."))
        if colon and parts[0] in Experiment.model_fields:
            location, problem = parts, rest
    line = _line_of(location, lines)
    field = ".".join(str(part) for part in location) or "experiment"
    if first["type"] == "extra_forbidden":
        problem = f"unknown field; {nearest(str(location[-1]), _known_fields(location[:-1]))}"
    elif first["type"] == "missing":
        problem = "missing"
    elif first["type"] != "value_error":
        given = first["input"]
        problem = problem[0].lower() + problem[1:]
        if not isinstance(given, dict | list):
            problem += f", not {reprlib.repr(given)}"
        elif first["type"].endswith("_type"):
            problem += f", not {_kind(given)}"
    # Where one path begins another, it is one mistake, tried as each member of a union.
    paths = {_field_path(other) for other in errors}
    more = sum(any(a != b for a, b in zip(path, location, strict=False)) for path in paths)
    text = f"{where}{f', line {line}' if line else ''}: {field}: {problem}"
    text += f" (and {more} more mistake{'s' if more > 1 else ''})" if more else ""
    # A field name can hold a line feed or a terminal's control characters.
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _precision(error: ErrorDetails) -> tuple[int, bool, bool]:
    """Rank a mistake: pydantic reports one for each member of a union, we name the nearest.

    The deepest is of the member that was meant; a type that does not fit says only that
    another member was. A name that is unknown explains one that is missing.
    """
    kind = error["type"]
    return len(_field_path(error)), not kind.endswith("_type"), kind == "extra_forbidden"


_UNION_LABELS = frozenset({"files", "Condition", "str", "int", "float", "constrained-str"})


def _field_path(error: ErrorDetails) -> tuple[str | int, ...]:
    # pydantic puts the tried member of a union into the path; a reader knows only fields.
    # An unknown field is the user's own word, whatever it looks like.
    own_word = len(error["loc"]) - 1 if error["type"] == "extra_forbidden" else None
    return tuple(
        part
        for place, part in enumerate(error["loc"])
        if place == own_word
        # `translators: {sets: ...}` is called sets before its own field of that name.
        or not (_is_union_label(part) or error["loc"][: place + 1] == ("translators", "sets"))
    )


def _is_union_label(part: str | int) -> bool:
    return isinstance(part, str) and (part in _UNION_LABELS or "[" in part or "constrained" in part)


def _line_of(location: tuple[str | int, ...], lines: Lines) -> int | None:
    parts = [str(part) if isinstance(part, str) else part for part in location]
    while True:
        found = lines.get(tuple(parts))
        if found is not None or not parts:
            return found
        parts.pop()


def _known_fields(location: tuple[str | int, ...]) -> list[str]:
    model: type[BaseModel] = Experiment
    for part in location:
        if part == "conditions" or isinstance(part, int):
            model = Condition
            continue
        if part == "fit":
            continue  # `translators: {fit: ...}` is read as the fit itself
        field = model.model_fields.get(str(part))
        inner = model_of(field.annotation) if field else None
        if inner is None:
            break
        model = inner
    return list(model.model_fields)


def model_of(annotation: Any) -> type[BaseModel] | None:
    """Return the model that a field's annotation names, alone or in a union, list or mapping."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = model_of(argument)
        if found is not None:
            return found
    return None


def _kind(value: Any) -> str:
    names = {type(None): "nothing", list: "a list", dict: "fields", str: "text"}
    return names.get(type(value), "a single value")
