"""Reading an experiment file: YAML or JSON, every mistake named with its line and field."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from statebridge.errors import ExperimentError
from statebridge.experiment.dataset import HUB
from statebridge.experiment.declared import is_model_folder
from statebridge.experiment.experiment import Experiment
from statebridge.experiment.reading.mistakes import mistakes_of
from statebridge.experiment.reading.yaml_text import Lines, kind, read_yaml

MAX_BYTES = 1_000_000
"""An experiment file is a page of text; anything larger is a mistake."""


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
    """Parse an experiment from YAML or JSON text; see `load_experiment`."""
    data, lines = read_yaml(text, where)
    return _checked(data, where, folder, overrides, lines)


def check_fields(
    data: Mapping[str, Any],
    *,
    where: str = "experiment",
    folder: Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    lines: Lines | None = None,
) -> Experiment:
    """Return the experiment of fields that are not from a file; see `load_experiment`.

    `lines` is the line of each field, where the fields were read from text (`read_yaml`).
    """
    return _checked(data, where, folder, overrides, lines or {})


def _checked(
    data: Any,
    where: str,
    folder: Path | None,
    overrides: Mapping[str, Any] | None,
    lines: Lines,
) -> Experiment:
    if not isinstance(data, Mapping):
        raise ExperimentError(f"{where}: holds {kind(data)}; an experiment is a mapping of fields")
    changes = dict(overrides or {})
    try:
        return _changed(data, changes, where, folder)
    except ValidationError as error:
        without = {left_out: _left_without(data, changes, left_out, folder) for left_out in changes}
        mistakes = mistakes_of(
            error,
            where,
            lines,
            lambda each: {c: changes[c] for c in changes if _identity(each) not in without[c]},
        )
        more = len(mistakes) - 1
        others = f" (and {more} more mistake{'s' if more > 1 else ''})" if more else ""
        refused = ExperimentError(f"{mistakes[0]}{others}")
        refused.mistakes = mistakes
        raise refused from None


def _changed(
    data: Mapping[Any, Any], changes: Mapping[str, Any], where: str, folder: Path | None
) -> Experiment:
    fields = copy.deepcopy(dict(data))
    for dotted, value in changes.items():
        set_field(fields, dotted, value, where)
    if folder is not None:
        _anchor_paths(fields, folder)
    return Experiment.model_validate(fields)


def _left_without(
    data: Mapping[Any, Any], changes: Mapping[str, Any], left_out: str, folder: Path | None
) -> set[Identity]:
    """Return the mistakes that are left when one change is left out.

    A mistake that is gone then came from that change. If two changes make it together, it is gone
    without either.
    """
    others = {change: value for change, value in changes.items() if change != left_out}
    try:
        _changed(data, others, "", folder)
    except ValidationError as error:
        return {_identity(each) for each in error.errors()}
    except ExperimentError:
        pass  # another change lies in a section that this one makes
    return set()


Identity = tuple[tuple[str | int, ...], str, str]


def _identity(mistake: ErrorDetails) -> Identity:
    return mistake["loc"], mistake["type"], mistake["msg"]


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
                f"{kind(inner)}, not fields; set the whole of it"
            )
        data = inner
    data[last] = value


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
        for field in ("model", "adapter"):
            anchor(data.get(side), field, only_if_marked=True)
    for _, holder in declared_files(data):
        if not (isinstance(holder, dict) and str(holder.get("path")).startswith(HUB)):
            anchor(holder, "path")
    conditions = data.get("conditions")
    for condition in conditions if isinstance(conditions, list) else ():
        anchor(condition.get("state_file") if isinstance(condition, dict) else None, "path")
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
