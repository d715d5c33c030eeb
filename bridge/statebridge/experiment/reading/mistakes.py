"""Mistakes that pydantic finds in an experiment, in the words of the file."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from statebridge.errors import Mistake, nearest
from statebridge.experiment.conditions import NAME, Condition
from statebridge.experiment.experiment import DEVICE, Experiment
from statebridge.experiment.reading.yaml_text import Lines, kind

Path = tuple[str | int, ...]


def mistakes_of(
    error: ValidationError,
    where: str,
    lines: Lines,
    changes_of: Callable[[ErrorDetails], Mapping[str, Any]] = lambda _: {},
) -> tuple[Mistake, ...]:
    """Return all mistakes that pydantic found, one for each place, the nearest to what was meant.

    Args:
        error: What pydantic found.
        where: Name of the file, or `experiment`.
        lines: Line of each field of the file; empty where there is none.
        changes_of: Those among the changes made to the file that a mistake comes from, with their
            values.
    """
    found: dict[Path, Mistake] = {}
    for each in sorted(error.errors(), key=_precision, reverse=True):
        path = _field_path(each)
        # Where one path begins another, it is one mistake, tried as each member of a union.
        if any(_one_place(path, other) for other in found):
            continue
        location, problem = _stated(each)
        location, line = as_written(location, lines)
        field = _printable(".".join(str(part) for part in location))
        changes = changes_of(each)
        if changes:
            line = None
            made = [f"{change}={reprlib.repr(value)}" for change, value in changes.items()]
            place = f"{where} with {', '.join(made)}"
        else:
            place = f"{where}, line {line}" if line else where
        found[path] = Mistake(line, field, _printable(problem), place)
    return tuple(found.values())


def _stated(error: ErrorDetails) -> tuple[Path, str]:
    """Return the place of a mistake, and the mistake in words."""
    location, problem = _field_path(error), problem_in_words(error)
    if not location:  # a check over several fields names the one that is wrong itself
        named, colon, rest = problem.partition(": ")
        parts = tuple(named.split("."))
        if colon and parts[0] in {*Experiment.model_fields, "sweep"}:
            return parts, rest
    return location, problem


def _one_place(path: Path, other: Path) -> bool:
    return all(a == b for a, b in zip(path, other, strict=False))


def _printable(text: str) -> str:
    # A field name can hold a line feed or a terminal's control characters.
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def problem_in_words(error: ErrorDetails) -> str:
    """Return what would be right, and what was given."""
    name, given, location = error["type"], error["input"], _field_path(error)
    if name == "value_error":
        return str(error["msg"]).removeprefix("Value error, ")
    if name == "extra_forbidden":
        return _unknown(location)
    if name == "missing":
        return "missing"
    problem = _right(name, error.get("ctx", {}), location)
    if problem is None:
        problem = error["msg"][0].lower() + error["msg"][1:]
    if given is None:  # as YAML reads a field with nothing behind its colon
        return f"{problem}; nothing is given"
    if not isinstance(given, dict | list | tuple):
        return f"{problem}, not {reprlib.repr(given)}"
    return f"{problem}, not {kind(given)}" if name.endswith("_type") else problem


def _unknown(location: Path) -> str:
    if len(location) > 1 and location[-1] in Experiment.model_fields:
        return (
            f"unknown field; {location[-1]} is one of the whole experiment, outside of this section"
        )
    return f"unknown field; {nearest(str(location[-1]), known_fields(location[:-1]))}"


_RIGHT = {
    "string_type": "give text",
    "bool": "give true or false",
    "int": "give a whole number",
    "float": "give a number",
    "decimal": "give a number",
    "finite": "give a finite number",
    "list": "give a list, such as [a, b]",
    "tuple": "give a list, such as [1, 2]",
    "path": "give the path of a file",
}
"""Words for a kind of mistake, by the beginning of pydantic's name for it."""

_MEANT: dict[Path, str] = {
    ("conditions",): "give the name of a condition or preset, or a list of conditions",
    ("translators",): "give a file for each seed, or fit: {...}, or sets: {...}",
    ("translators", "sets"): "give translators by the name of their set",
}
"""Words for a field that may hold several things."""

_FORMS = {
    NAME: "give lower-case letters, digits, _, - and ., with a letter or digit first",
    DEVICE: "give auto, cpu, cuda or cuda:N",
}


def _right(name: str, found: Mapping[str, Any], location: Path) -> str | None:
    """Return what would be right; None for a mistake that has no words here."""
    bounds = {
        "greater_than_equal": f"give a number of at least {found.get('ge', 0):g}",
        "greater_than": f"give a number above {found.get('gt', 0):g}",
        "less_than_equal": f"give a number of at most {found.get('le', 0):g}",
        "less_than": f"give a number below {found.get('lt', 0):g}",
        "literal_error": f"give {found.get('expected')}",
        "string_unicode": "give whole characters (it holds half of a surrogate pair)",
        "too_short": f"is empty; give at least {found.get('min_length')}",
        "string_too_short": f"give at least {found.get('min_length')} character",
        "string_too_long": f"give at most {found.get('max_length')} characters",
        "string_pattern_mismatch": _FORMS.get(str(found.get("pattern"))),
    }
    if name in bounds:
        return bounds[name]
    if name.endswith("_type") and location in _MEANT:
        return _MEANT[location]
    if name.startswith(("dict_", "model_", "dataclass_")):
        fields = known_fields(location)
        return f"give fields ({', '.join(fields[:4])}{', ...' if len(fields) > 4 else ''})"
    return next((words for start, words in _RIGHT.items() if name.startswith(start)), None)


def _precision(error: ErrorDetails) -> tuple[int, bool, bool]:
    """Rank a mistake: pydantic reports one for each member of a union, we name the nearest.

    The deepest is of the member that was meant; a type that does not fit says only that
    another member was. A name that is unknown explains one that is missing.
    """
    name = error["type"]
    return len(_field_path(error)), not name.endswith("_type"), name == "extra_forbidden"


_UNION_LABELS = frozenset({"files", "str", "int", "float", "constrained-str"})


def _field_path(error: ErrorDetails) -> Path:
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
    # A class is capitalised; fields, and the names that a file gives, are not.
    return isinstance(part, str) and (
        part in _UNION_LABELS or part[:1].isupper() or "[" in part or "constrained" in part
    )


def as_written(location: Path, lines: Lines) -> tuple[Path, int | None]:
    """Return the path as the file has it, with the line of its nearest part."""
    if location[:1] == ("layer_search",) and ("layer_search",) not in lines and ("sweep",) in lines:
        location = ("sweep", *location[1:])
    parts: Sequence[str] = [str(part) for part in location]
    while parts and tuple(parts) not in lines:
        parts = parts[:-1]
    return location, lines.get(tuple(parts))


def known_fields(location: Path) -> list[str]:
    """Return the fields that are known at a place of an experiment."""
    model: type[BaseModel] = Experiment
    for part in location:
        if part == "conditions" or isinstance(part, int):
            model = Condition
            continue
        if part == "fit":
            continue  # `translators: {fit: ...}` is read as the fit itself
        field = model.model_fields.get("layer_search" if part == "sweep" else str(part))
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
