"""Submission of an experiment: the files that it names are uploaded, or found on the server.

A submission holds exactly the fields that the file declares, with references in the place of
paths:

- a dataset file is named by its SHA-256, and uploaded unless the server has it; a format other
  than JSON Lines is converted first;
- a text to fit translators on likewise, with its name for their cards;
- a translator file is named by the id of a stored translator with the same bytes, and uploaded
  if there is none; the experiment file may also name a stored one by its id (`tr_...`);
- a model folder is named by the folder's name, as in the server's list of pairs;
- `execution.device` and `execution.sender_device` are left out: the server chooses them.
"""

from __future__ import annotations

import copy
import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from statebridge.errors import ExperimentError
from statebridge.experiment.declared import is_model_folder
from statebridge.experiment.experiment import Dataset, Experiment, Fit, TranslatorSets
from statebridge.experiment.reading.files import declared_files, set_field
from statebridge.experiment.reading.given import ExperimentLike, as_declared, read_experiment
from statebridge.results.service_records import DoctorAnswer, DoctorCheck, ExperimentStatus
from statebridge_client.call import Call, model_of
from statebridge_client.caller import Steps
from statebridge_client.uploads import stored_corpus, stored_dataset, stored_translators

DOCTOR_SECONDS = 900.0
"""Longest wait for the doctor, whose answers are given one after another."""

STORED = Path("/stored-on-the-server")
"""Replaces the path of a stored file that an experiment names by its SHA-256 alone."""


def read_submitted(given: ExperimentLike, overrides: Mapping[str, Any] | None = None) -> Experiment:
    """Return a checked experiment; a dataset or a corpus may be a SHA-256 alone.

    Raises:
        ExperimentError: As `statebridge.load_experiment`.
    """
    if isinstance(given, Experiment):
        content: Any = as_declared(given)
    else:
        content = given if isinstance(given, Mapping) else _content(Path(given))
    return read_experiment(given, _with_stored(content, dict(overrides or {})))


def _with_stored(content: Any, changes: dict[str, Any]) -> dict[str, Any]:
    """Return the changes, and a path for each stored file that is named once they are made."""
    changed = copy.deepcopy(dict(content)) if isinstance(content, Mapping) else {}
    try:
        for dotted, value in changes.items():
            set_field(changed, dotted, copy.deepcopy(value), "experiment")
    except ExperimentError:
        return changes  # which are refused where the experiment is read
    stored = {}
    for section, declared in declared_files(changed):
        if (
            isinstance(declared, dict)
            and "sha256" in declared
            and not any(name in declared for name in ("path", "generate"))
        ):
            declared["path"] = str(STORED)
            # All of it: the name of a set may have dots, as the way to a field has.
            stored[section] = changed[section]
    return changes | stored


def _content(path: Path) -> Any:
    import yaml  # noqa: PLC0415 - a moment's use

    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValueError, RecursionError):
        return None  # load_experiment says what is wrong, and where


def submit(
    given: ExperimentLike,
    overrides: Mapping[str, Any] | None = None,
    *,
    priority: int = 0,
    shared: bool = False,
    idempotency_key: str | None = None,
) -> Steps[ExperimentStatus]:
    """Upload what an experiment names and submit it.

    Raises:
        StatebridgeError: The file, the rows or a translator is wrong, or the server refuses.
    """
    key = idempotency_key or secrets.token_hex(16)
    if not key.isascii() or not key.isprintable() or len(key) > 200:
        raise ExperimentError("idempotency_key: give up to 200 printable ASCII characters")
    content = yield from _uploaded(given, overrides)
    status: ExperimentStatus = yield Call(
        "POST",
        "/v1/experiments",
        model_of(ExperimentStatus),
        params={"priority": priority, "shared": shared},
        headers={"Content-Type": "application/json", "Idempotency-Key": key},
        content=content,
        repeatable=True,  # under its key it is queued once
        refused=ExperimentError,
    )
    return status


def doctor(
    given: ExperimentLike, overrides: Mapping[str, Any] | None = None
) -> Steps[list[DoctorCheck]]:
    """Upload what an experiment names and have the server check it; nothing is queued.

    Raises:
        StatebridgeError: The file, the rows or a translator is wrong, or the server refuses.
    """
    content = yield from _uploaded(given, overrides)
    checks: list[DoctorCheck] = yield Call(
        "POST",
        "/v1/doctor",
        model_of(DoctorAnswer, "checks"),
        headers={"Content-Type": "application/json"},
        content=content,
        repeatable=True,  # nothing is stored
        refused=ExperimentError,
        read_seconds=DOCTOR_SECONDS,
    )
    return checks


def _uploaded(given: ExperimentLike, overrides: Mapping[str, Any] | None) -> Steps[bytes]:
    """Return an experiment as a server reads it, once the server has what it names."""
    experiment = read_submitted(given, overrides)
    body = as_declared(experiment)
    _leave_out_this_machine(body)
    body["dataset"] = yield from _dataset(experiment.dataset)
    if experiment.translators is not None:
        body["translators"] = yield from _translators(experiment)
    return json.dumps(body, allow_nan=False).encode("ascii")


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
    experiment = read_submitted(given, overrides)
    status: ExperimentStatus = yield from submit(
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


def _leave_out_this_machine(body: dict[str, Any]) -> None:
    for side in ("sender", "receiver"):
        model = body[side]["model"]
        if is_model_folder(model):
            body[side]["model"] = Path(model).expanduser().resolve().name
    if "execution" in body:
        for device in ("device", "sender_device"):
            body["execution"].pop(device, None)


def _dataset(dataset: Dataset) -> Steps[dict[str, Any]]:
    if dataset.generate is not None:
        return dataset.model_dump(mode="json", exclude_unset=True)
    if dataset.path == STORED:
        return {"sha256": dataset.sha256}
    held = yield from stored_dataset(dataset)
    return {"sha256": held.sha256}


def _translators(experiment: Experiment) -> Steps[dict[str, Any] | None]:
    if not any(condition.translates for condition in experiment.resolved_conditions):
        return None
    sets: dict[str, Any] = {}
    for name, declared in experiment.translator_sets.items():
        if isinstance(declared, Fit):
            sets[name] = yield from _fit(declared)
        else:
            files = {seed: path for seed, path in declared.items() if seed in experiment.seeds}
            sets[name] = yield from stored_translators(files)
    if isinstance(experiment.translators, TranslatorSets):
        return {"sets": sets}
    (only,) = sets.values()
    return dict(only)


def _fit(fit: Fit) -> Steps[dict[str, Any]]:
    body = fit.model_dump(mode="json", exclude_unset=True)
    if fit.corpus is not None and fit.corpus.path is not None:
        del body["corpus"]["path"]
        if fit.corpus.path != STORED:
            body["corpus"] |= yield from stored_corpus(fit.corpus, fit.corpus.path)
    if fit.causal is not None:
        body["causal"]["rows"] = yield from _dataset(fit.causal.rows)
    return {"fit": body}
