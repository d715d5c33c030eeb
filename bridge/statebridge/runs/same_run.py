"""Whether a directory holds what is asked to go on in it, or a part of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from statebridge.errors import ResultError
from statebridge.experiment.experiment import Experiment

MAY_GROW = frozenset(
    {
        "experiment.name",
        "experiment.limit",
        "experiment.seeds",
        "experiment.conditions",
        "experiment.translators",
        "experiment.positive_control",
        "experiment.sender_checks",
    }
)
"""Parts of an identity in which a run may become more: the lanes that it has stay what they are."""

FOLLOWS = ("configurations.", "dataset.", "pair.", "prompts.", "translators.")
"""Beginnings of parts that follow from the experiment and the files that it names."""


SHOWN = 200
"""Characters of a value that a message shows: two long paths often differ at their ends."""


class OtherRunError(ResultError):
    """A directory that holds a run which was started as something else; `what` differs."""

    def __init__(self, message: str, what: str) -> None:
        super().__init__(message)
        self.what = what


def as_started(experiment: Experiment, earlier: Mapping[str, Any] | None) -> Experiment:
    """Return an experiment with the random stream that its directory was started with.

    Unless it names one itself: the default was another one before.

    Args:
        experiment: As declared.
        earlier: The experiment that the directory's file states; None in a new directory.
    """
    if earlier is None or "rng" in experiment.model_fields_set or "rng" not in earlier:
        return experiment
    return experiment.model_copy(update={"rng": earlier["rng"]})


def check_same(
    identity: Mapping[str, Any],
    earlier: Mapping[str, Any],
    file: Path,
    *,
    may_grow: bool = False,
) -> None:
    """Refuse to go on with what was started as something else.

    Args:
        identity: What is asked for.
        earlier: What the directory's file states.
        file: That file; for the message.
        may_grow: Whether parts of `MAY_GROW` may differ; `check_growth` looks at these.

    Raises:
        OtherRunError: A part of the identity differs; names all that do, and how.
    """
    found = {
        what: values
        for what, values in _differences(identity, earlier)
        if not (may_grow and _may_differ(what, values[0]))
    }
    if found:
        raise other_run(found, file)


def _may_differ(what: str, before: Any) -> bool:
    # A further condition may read a prompt, and a further seed use a translator, that is new.
    new = before is None and what.startswith(("prompts.", "translators."))
    return what in MAY_GROW or new


def other_run(found: Mapping[str, tuple[Any, Any]], file: Path) -> OtherRunError:
    """Return the error that states every field that differs: there, and here.

    What follows from the experiment is named only where the experiment is the same.
    """
    if any(what.startswith("experiment.") for what in found):
        found = {what: each for what, each in found.items() if not what.startswith(FOLLOWS)}
    fields = [field for what, values in found.items() for field in _fields(what, *values)]
    parts = "; ".join(
        f"{what} ({_short(there)} there, {_short(here)} here)" for what, there, here in fields
    )
    return OtherRunError(
        f"{file.parent}: was started with another {parts}; give a new --out, or run the experiment "
        f"that the directory's {file.name} states",
        next(iter(found)),
    )


def _fields(what: str, before: Any, value: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yield the fields that differ within a part, with their values."""
    if not (isinstance(before, dict) and isinstance(value, dict)):
        yield what, before, value
        return
    for key in {**before, **value}:
        if not _same(before.get(key), value.get(key)):
            yield from _fields(f"{what}.{key}", before.get(key), value.get(key))


def grows(identity: Mapping[str, Any], earlier: Mapping[str, Any]) -> bool:
    """Whether any part of an identity that may grow differs."""
    return any(what in MAY_GROW for what, _ in _differences(identity, earlier))


def check_growth(
    identity: Mapping[str, Any],
    earlier: Mapping[str, Any],
    cells: Mapping[str, Mapping[str, Any]],
    limit: int,
    file: Path,
) -> None:
    """Refuse an experiment that lacks what its directory has.

    Args:
        identity: What is asked for.
        earlier: The directory's manifest.
        cells: The condition of each cell that is asked for, by name of the cell.
        limit: Rows that are asked for.
        file: The manifest's file; for the message.

    Raises:
        OtherRunError: A cell or rows would be lost, or a cell has another meaning.
    """
    found: dict[str, tuple[Any, Any]] = {}
    for cell in earlier["cells"]:
        asked = cells.get(cell["name"])
        if asked is None or not _same(cell["condition"], asked):
            found[f"cell {cell['name']}"] = cell["condition"], asked
    rows = max(cell["rows"] + cell["excluded_rows"] for cell in earlier["cells"])
    if limit < rows:
        found["number of rows"] = rows, limit
    experiment, was = identity["experiment"], earlier["experiment"]
    fits, fitted = _fits(experiment.get("translators")), _fits(was.get("translators"))
    for name, before in fitted.items():
        if not _same(before, fits.get(name)):
            found["experiment.translators"] = before, fits.get(name)
    for name in ("positive_control", "sender_checks"):
        if was.get(name) and not _same(was[name], experiment.get(name)):
            found[f"experiment.{name}"] = was[name], experiment.get(name)
    if found:
        raise other_run(found, file)


def _differences(
    identity: Mapping[str, Any], earlier: Mapping[str, Any]
) -> Iterator[tuple[str, tuple[Any, Any]]]:
    for key, value in identity.items():
        before = earlier.get(key)
        # Manifests of earlier versions state no such hashes.
        if _same(before, value) or (key in {"prompts", "configurations"} and before is None):
            continue
        if isinstance(value, dict) and isinstance(before, dict):
            for part in {**before, **value}:
                if not _same(before.get(part), value.get(part)):
                    yield f"{key}.{part}", (before.get(part), value.get(part))
        else:
            yield key, (before, value)


def _fits(translators: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the declared fits by the name of their set; files are compared by their hashes."""
    declared = translators or {}
    sets = declared.get("sets", {"": declared})
    return {name: each for name, each in sets.items() if "corpus" in each}


def _short(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, dict):  # the other one is nothing, or no mapping
        return "declared"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]} ..."


def _same(one: Any, other: Any) -> bool:
    """Whether two parts are equal; a field that one of them lacks is None in the other.

    So a field that a later version has, and that says nothing, makes no other run of one.
    """
    if isinstance(one, dict) and isinstance(other, dict):
        return all(_same(one.get(key), other.get(key)) for key in {**one, **other})
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)
