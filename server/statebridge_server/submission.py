"""From what a client sends to an experiment that the worker may carry out.

The client's JSON is an experiment file with references in the place of paths: a dataset by
its SHA-256, translators by their ids, models by the names of a listed pair.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from statebridge.demo.experiment import TAUGHT_CELLS
from statebridge.errors import ExperimentError, nearest
from statebridge.spec import PRESETS, experiment_cells, parse_experiment
from statebridge.spec.experiment import Experiment, Fit
from statebridge_server.layout import dataset_path, translator_path
from statebridge_server.settings import ListedPair, Settings
from statebridge_server.store.database import Database
from statebridge_server.store.datasets import HeldDataset, held_dataset
from statebridge_server.store.keys import Principal
from statebridge_server.store.translators import visible_translator

_SHA256 = re.compile(r"[0-9a-f]{64}")
_PLACEHOLDERS = 8
"""The most times that one template may name its fields."""


@dataclass(frozen=True, slots=True)
class Submission:
    """A checked experiment and what it needs."""

    experiment: Experiment
    pair: str
    lanes: int
    inputs: tuple[tuple[str, str], ...]


def check_submission(
    body: Any, settings: Settings, database: Database, principal: Principal
) -> Submission:
    """Turn a client's JSON into an experiment whose paths are the server's own.

    Raises:
        ExperimentError: Anything wrong with it, or beyond a limit; the message names the
            field.
    """
    if not isinstance(body, dict):
        raise ExperimentError("experiment: send one JSON object with an experiment's fields")
    data = dict(body)
    if data.get("remote") is not None:
        raise ExperimentError("remote: leave it out; this server runs experiments itself")
    if data.get("sweep") is not None:
        raise ExperimentError(
            "sweep: a server runs one pair of layers at a time; submit an experiment for each, or "
            "use `statebridge sweep` where the models are"
        )
    inputs: list[tuple[str, str]] = []
    dataset = _dataset(data, database, principal, inputs)
    _translators(data, database, principal, inputs)
    pair = _pair(data, settings)
    try:
        experiment = parse_experiment(json.dumps(data, ensure_ascii=False))
    except ExperimentError as error:
        # The text was written here, on one line.
        raise ExperimentError(str(error).replace("experiment, line 1:", "experiment:", 1)) from None
    if experiment.dtype not in settings.pairs[pair].dtypes:
        raise ExperimentError(
            f"dtype: pair {pair} is served in {', '.join(settings.pairs[pair].dtypes)}"
        )
    if experiment.execution.device != "auto":
        raise ExperimentError("execution.device: leave it out; the operator chooses it")
    if experiment.execution.sender_device is not None:
        raise ExperimentError("execution.sender_device: leave it out; the operator chooses it")
    lanes = _check_limits(experiment, settings, dataset)
    return Submission(experiment, pair, lanes, tuple(dict.fromkeys(inputs)))


def public_experiment(stored: Mapping[str, Any], pair: ListedPair | None) -> dict[str, Any]:
    """Return an experiment as resolved, with references again in the place of paths."""
    shown = dict(stored)
    dataset = dict(stored["dataset"])
    dataset.pop("path", None)
    shown["dataset"] = {key: value for key, value in dataset.items() if value is not None}
    translators = stored.get("translators")
    if isinstance(translators, dict):
        if "sets" in translators:
            sets = translators["sets"]
            shown["translators"] = {"sets": {name: _shown_set(sets[name]) for name in sets}}
        else:
            shown["translators"] = _shown_set(translators)
    if pair is not None:
        for side in ("sender", "receiver"):
            shown[side] = {k: v for k, v in stored[side].items() if v is not None}
    return shown


def _shown_set(translators: Mapping[str, Any]) -> dict[str, Any]:
    if "corpus" not in translators:
        return {seed: Path(path).stem for seed, path in translators.items()}
    fit = dict(translators)
    fit["corpus"] = {k: v for k, v in fit["corpus"].items() if v is not None}
    if fit.get("causal") is not None:
        rows = {k: v for k, v in fit["causal"]["rows"].items() if k != "path" and v is not None}
        fit["causal"] = {**fit["causal"], "rows": rows}
    return {"fit": fit}


def _dataset(
    data: dict[str, Any],
    database: Database,
    principal: Principal,
    inputs: list[tuple[str, str]],
    *,
    key: str = "dataset",
    where: str = "dataset",
) -> HeldDataset | None:
    """Put the path of an uploaded dataset into `data[key]`; None where rows are generated."""
    declared = data.get(key)
    if not isinstance(declared, dict):
        raise ExperimentError(
            f"{where}: give {{sha256: ...}} of an uploaded dataset, or {{generate: {{...}}}}"
        )
    if "path" in declared:
        raise ExperimentError(
            f"{where}.path: a server reads no paths; upload the rows to /v1/datasets and give "
            f"{where}.sha256"
        )
    if declared.get("generate") is not None:
        return None
    sha256 = declared.get("sha256")
    if not isinstance(sha256, str) or _SHA256.fullmatch(sha256) is None:
        raise ExperimentError(f"{where}.sha256: give the 64 lower-case hex digits of an upload")
    if declared.get("format", "jsonl") != "jsonl":
        raise ExperimentError(f"{where}.format: a server takes jsonl; convert the rows first")
    held = held_dataset(database, principal, sha256)
    if held is None:
        raise ExperimentError(
            f"{where}.sha256: this key has uploaded no dataset {sha256}; upload it first"
        )
    fields = {key: value for key, value in held.fields.items() if value is not None}
    if declared.get("fields") not in (None, {}, fields, held.fields):
        raise ExperimentError(
            f"{where}.fields: the upload was checked with {json.dumps(fields)}; leave them out, "
            "or upload again with other fields"
        )
    data[key] = {
        **declared,
        "fields": fields,
        "path": str(dataset_path(sha256)),
    }
    inputs.append(("dataset", sha256))
    return held


def _translators(
    data: dict[str, Any],
    database: Database,
    principal: Principal,
    inputs: list[tuple[str, str]],
) -> None:
    declared = data.get("translators")
    if declared is None:
        return
    if not isinstance(declared, dict):
        raise ExperimentError("translators: give the id of a translator for each seed, or fit")
    if "sets" not in declared:
        data["translators"] = _translator_set(declared, "translators", database, principal, inputs)
        return
    sets = declared["sets"]
    if not isinstance(sets, dict):
        raise ExperimentError("translators.sets: give sets of translators by name")
    found = {}
    for name, each in sets.items():
        where = f"translators.sets.{name[:40]}"
        if not isinstance(each, dict):
            raise ExperimentError(f"{where}: give the id of a translator for each seed, or fit")
        found[name] = _translator_set(each, where, database, principal, inputs)
    data["translators"] = {**declared, "sets": found}


def _translator_set(
    declared: dict[str, Any],
    where: str,
    database: Database,
    principal: Principal,
    inputs: list[tuple[str, str]],
) -> dict[str, Any]:
    """Return one set with paths of this server in the place of what the client named."""
    if "fit" in declared or "corpus" in declared:
        fit = declared.get("fit", declared)
        corpus = fit.get("corpus") if isinstance(fit, dict) else None
        if isinstance(corpus, dict) and corpus.get("path") is not None:
            raise ExperimentError(
                f"{where}.fit.corpus.path: a server reads no paths; fit on generated rows, or "
                "fit elsewhere and upload the translators"
            )
        if not isinstance(fit, dict) or not isinstance(fit.get("causal"), dict):
            return declared
        causal = dict(fit["causal"])
        _dataset(causal, database, principal, inputs, key="rows", where=f"{where}.fit.causal.rows")
        fit = {**fit, "causal": causal}
        return {**declared, "fit": fit} if "fit" in declared else fit
    files: dict[str, str] = {}
    for seed, translator_id in declared.items():
        found = None
        if isinstance(translator_id, str) and len(translator_id) <= 64:
            found = visible_translator(database, principal, translator_id)
        if found is None:
            raise ExperimentError(
                f"{where}.{seed[:40]}: no translator of that id is visible to this key; a "
                "server reads no paths: upload the file to /v1/translators and give its id"
            )
        files[seed] = str(translator_path(found.id))
        inputs.append(("translator", found.id))
    return files


def _pair(data: dict[str, Any], settings: Settings) -> str:
    sides: dict[str, dict[str, Any]] = {}
    for side in ("sender", "receiver"):
        declared = data.get(side)
        if not isinstance(declared, dict) or not isinstance(declared.get("model"), str):
            raise ExperimentError(f"{side}: give {{model: ..., layer: ...}}")
        sides[side] = declared
    for name, listed in settings.pairs.items():
        both = {"sender": listed.sender, "receiver": listed.receiver}
        if all(
            sides[side]["model"] == model.public_name
            and sides[side].get("revision") in (None, model.revision)
            for side, model in both.items()
        ):
            for side, model in both.items():
                # The revision that runs stands in the manifest.
                data[side] = {**sides[side], "revision": model.revision}
            return name
    asked = [str(sides[side]["model"])[:100] for side in ("sender", "receiver")]
    known = [f"{p.sender.public_name} to {p.receiver.public_name}" for p in settings.pairs.values()]
    raise ExperimentError(
        f"sender, receiver: {asked[0]} to {asked[1]} is not a pair of this server; "
        + (nearest(" to ".join(asked), known) if known else "it lists none")
    )


def _check_limits(experiment: Experiment, settings: Settings, held: HeldDataset | None) -> int:
    """Check every bound; return how many lanes the run has at most, its controls left out."""
    limits = settings.limits
    generate = experiment.dataset.generate
    rows = held.rows if held is not None else generate.rows if generate is not None else 0
    _at_most("dataset.generate.rows", rows, limits.rows)
    lanes = len(experiment_cells(experiment)) * min(rows, experiment.limit or rows)
    _at_most("rows times cells", lanes + _control_lanes(experiment, settings, rows), limits.lanes)
    decoding = experiment.decoding
    _at_most("decoding.max_new_tokens", decoding.max_new_tokens, limits.new_tokens)
    _at_most("decoding.relay_max_new_tokens", decoding.relay_max_new_tokens, limits.new_tokens)
    if experiment.execution.max_lanes is not None:
        _at_most("execution.max_lanes", experiment.execution.max_lanes, limits.lanes_together)
    for name, template in experiment.prompts.model_dump(exclude_none=True).items():
        uses = template.count("{")
        _at_most(f"placeholders of prompts.{name}", uses, _PLACEHOLDERS)
        longest = len(template) + uses * (0 if held is None else held.longest)
        _at_most(f"characters of a prompt by prompts.{name}", longest, limits.prompt_chars)
    for fit in experiment.translator_sets.values():
        if isinstance(fit, Fit):
            _check_fit_limits(fit, settings)
    return lanes


def _control_lanes(experiment: Experiment, settings: Settings, rows: int) -> int:
    """Return how many lanes the positive controls have at most."""
    declared = experiment.positive_control
    if declared is None:
        return 0
    cells = len(PRESETS["positive-control"]) + len(experiment.seeds) - 1
    lanes = cells * min(rows, declared.rows)
    if declared.taught_pair:
        _at_most("positive_control.rows", declared.rows, settings.limits.rows)
        lanes += TAUGHT_CELLS * declared.rows
    return lanes


def _check_fit_limits(fit: Fit, settings: Settings) -> None:
    limits = settings.limits
    if fit.corpus.generate is not None:
        corpus_rows = fit.corpus.generate.rows
        _at_most("translators.fit.corpus.generate.rows", corpus_rows, limits.rows)
    _at_most("translators.fit.training.epochs", fit.training.epochs, limits.fit_epochs)
    hidden = fit.training.hidden_dim or 0
    _at_most("translators.fit.training.hidden_dim", hidden, limits.fit_hidden_dim)
    _at_most("translators.fit.rank", fit.rank or 0, limits.fit_hidden_dim)
    if fit.causal is None:
        return
    where = "translators.fit.causal"
    if fit.causal.rows.generate is not None:
        _at_most(f"{where}.rows.generate.rows", fit.causal.rows.generate.rows, limits.rows)
    _at_most(f"{where}.training.epochs", fit.causal.training.epochs, limits.fit_epochs)
    _at_most(f"{where}.training.batch_rows", fit.causal.training.batch_rows, limits.lanes_together)


def _at_most(what: str, given: int, limit: int) -> None:
    if given > limit:
        raise ExperimentError(f"{what}: {given} is more than this server's limit of {limit}")
