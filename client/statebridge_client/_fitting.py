"""Fitting translators on a server: an experiment of one row that declares how to fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from statebridge.errors import ExperimentError
from statebridge.experiment.experiment import Experiment, Fit, TranslatorSets
from statebridge_client import _submission
from statebridge_client._call import Steps
from statebridge_client._records import ExperimentStatus, TranslatorInfo
from statebridge_client._submission import ExperimentLike


def submit_fit(
    given: ExperimentLike,
    overrides: Mapping[str, Any] | None,
    *,
    shared: bool,
    idempotency_key: str | None,
) -> Steps[ExperimentStatus]:
    """Submit the fitting of the translators that an experiment declares.

    Raises:
        ExperimentError: It declares files, or no translators.
    """
    experiment = _submission.read_experiment(given, overrides)
    status: ExperimentStatus = yield from _submission.submit(
        experiment, _one_row(experiment), shared=shared, idempotency_key=idempotency_key
    )
    return status


def _one_row(experiment: Experiment) -> dict[str, Any]:
    """Return the least that makes a server fit: each set is used once, on one row.

    The row is measured without generating; what is fitted depends on none of it.
    """
    fits = [name for name, made in experiment.translator_sets.items() if isinstance(made, Fit)]
    if not fits:
        raise ExperimentError("translators: declares no fit: {...}; there is nothing to fit")
    conditions: list[str | dict[str, str]] = ["no_inject"]
    if isinstance(experiment.translators, TranslatorSets):
        conditions += [
            {"name": f"with_{name}", "source": "translated", "translator": name} for name in fits
        ]
    else:
        conditions.append("replace")
    return {"limit": 1, "decode": False, "conditions": conditions}


def fitted_by(experiment_id: str, listed: list[TranslatorInfo]) -> list[TranslatorInfo]:
    """Return the translators that an experiment fitted, in the order of their names."""
    found = [item for item in listed if item.experiment == experiment_id]
    return sorted(found, key=lambda item: item.name)
