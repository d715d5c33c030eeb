"""From an experiment file to a submission: what it names is uploaded, or found on the server.

What is sent is what the file declares and nothing that it leaves out, with references in the
place of paths:

- a dataset file goes by its SHA-256, and is uploaded where the server does not have it yet;
  a format other than JSON Lines is converted first;
- so does a text to fit translators on, with the name that their cards give it;
- a translator file goes by the id of a stored translator with the same bytes, and is uploaded
  where there is none; the id of a stored one (`tr_...`) may stand in the file itself;
- a model folder goes by the folder's name, as servers name the folders that they list;
- `execution.device` and `execution.sender_device` are left out: they are the server's choice.
"""

from __future__ import annotations

import copy
import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from statebridge.errors import ExperimentError
from statebridge.experiment import load_experiment, parse_experiment
from statebridge.experiment.experiment import Dataset, Experiment, Fit, TranslatorSets
from statebridge.experiment.files import declared_files, is_model_folder, set_field
from statebridge_client import _experiment_calls
from statebridge_client._call import Steps
from statebridge_client._records import ExperimentStatus
from statebridge_client._uploads import stored_corpus, stored_dataset, stored_translators

STORED = Path("/stored-on-the-server")
"""In the place of a path where an experiment names a stored file by its SHA-256 alone."""

ExperimentLike = str | Path | Experiment | Mapping[str, Any]
"""A file, what was read from one, or its fields."""


def read_experiment(
    given: ExperimentLike, overrides: Mapping[str, Any] | None = None
) -> Experiment:
    """Return a checked experiment; the SHA-256 of a dataset or a corpus may stand alone in it.

    Raises:
        ExperimentError: As `statebridge.experiment.load_experiment`.
    """
    changes = dict(overrides or {})
    if isinstance(given, Experiment):
        if not changes:
            return given
        given = _as_declared(given)
    if isinstance(given, Mapping):
        try:
            text = json.dumps(given, ensure_ascii=False)
        except (TypeError, ValueError) as error:
            raise ExperimentError(f"experiment: cannot be sent as JSON: {error}") from None
        return parse_experiment(text, folder=Path(), overrides=_with_stored(dict(given), changes))
    return load_experiment(given, _with_stored(_content(Path(given)), changes))


def _as_declared(experiment: Experiment) -> dict[str, Any]:
    """Return the fields of an experiment in the form that a file has."""
    fields = experiment.model_dump(mode="json", exclude_unset=True)
    if isinstance(experiment.translators, Fit):
        fields["translators"] = {"fit": fields["translators"]}
    elif isinstance(experiment.translators, TranslatorSets):
        sets = fields["translators"]["sets"]
        for name, declared in experiment.translators.sets.items():
            sets[name] = {"fit": sets[name]} if isinstance(declared, Fit) else sets[name]
    return fields


def _with_stored(content: Any, changes: dict[str, Any]) -> dict[str, Any]:
    """Return the changes, and a path for each stored file that is named once they are made."""
    changed = copy.deepcopy(content) if isinstance(content, dict) else {}
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
    experiment = read_experiment(given, overrides)
    body = _as_declared(experiment)
    _leave_out_what_is_of_this_machine(body)
    body["dataset"] = yield from _dataset(experiment.dataset)
    if experiment.translators is not None:
        body["translators"] = yield from _translators(experiment)
    status: ExperimentStatus = yield _experiment_calls.submit(
        body, key, priority=priority, shared=shared
    )
    return status


def _leave_out_what_is_of_this_machine(body: dict[str, Any]) -> None:
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
    if fit.corpus.path is not None:
        del body["corpus"]["path"]
        if fit.corpus.path != STORED:
            body["corpus"] |= yield from stored_corpus(fit.corpus, fit.corpus.path)
    if fit.causal is not None:
        body["causal"]["rows"] = yield from _dataset(fit.causal.rows)
    return {"fit": body}
