"""An experiment as a caller gives it: a file, an `Experiment`, or the fields of one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from statebridge.errors import ExperimentError
from statebridge.experiment.experiment import Experiment, Fit, TranslatorSets
from statebridge.experiment.reading.files import check_fields, load_experiment

ExperimentLike = str | Path | Experiment | Mapping[str, Any]
"""Path of a file, what was read from one, or its fields."""


def read_experiment(
    given: ExperimentLike, overrides: Mapping[str, Any] | None = None
) -> Experiment:
    """Return a checked experiment.

    Args:
        given: Paths in a file are relative to the file, those in fields to the working directory.
        overrides: Fields (`limit`) or fields of sections (`decoding.max_new_tokens`) to change.

    Raises:
        ExperimentError: The file is missing or unreadable, or declares something wrong.
    """
    if isinstance(given, Experiment):
        if not overrides:
            return given
        given = as_declared(given)
    if isinstance(given, Mapping):
        try:
            fields = json.loads(json.dumps(given, ensure_ascii=False))
        except (TypeError, ValueError) as error:
            raise ExperimentError(f"experiment: its fields are not JSON: {error}") from None
        return check_fields(fields, folder=Path(), overrides=overrides)
    return load_experiment(given, overrides)


def as_declared(experiment: Experiment) -> dict[str, Any]:
    """Return the fields of an experiment in the form that a file has."""
    fields = experiment.model_dump(mode="json", exclude_unset=True)
    if isinstance(experiment.translators, Fit):
        fields["translators"] = {"fit": fields["translators"]}
    elif isinstance(experiment.translators, TranslatorSets):
        sets = fields["translators"]["sets"]
        for name, declared in experiment.translators.sets.items():
            sets[name] = {"fit": sets[name]} if isinstance(declared, Fit) else sets[name]
    return fields
