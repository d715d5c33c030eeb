"""Whether a directory holds what is asked to go on in it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from statebridge.errors import ResultError
from statebridge.experiment.experiment import Experiment


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


def check_same(identity: Mapping[str, Any], earlier: Mapping[str, Any], file: Path) -> None:
    """Refuse to go on with what was started as something else.

    Args:
        identity: What is asked for.
        earlier: What the directory's file states.
        file: That file; for the message.

    Raises:
        OtherRunError: A part of the identity differs.
    """
    for key, value in identity.items():
        before = earlier.get(key)
        if _same(before, value):
            continue
        what = key
        if isinstance(value, dict) and isinstance(before, dict):
            what += "." + next(
                k for k in {**before, **value} if not _same(before.get(k), value.get(k))
            )
        raise OtherRunError(
            f"{file.parent}: was started with another {what}; give a new --out, or run the "
            f"experiment that the directory's {file.name} states",
            what,
        )


def _same(one: Any, other: Any) -> bool:
    """Whether two parts are equal; a field that one of them lacks is None in the other.

    So a field that a later version has, and that says nothing, makes no other run of one.
    """
    if isinstance(one, dict) and isinstance(other, dict):
        return all(_same(one.get(key), other.get(key)) for key in {**one, **other})
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)
