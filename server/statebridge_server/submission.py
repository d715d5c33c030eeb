"""Check of a client's submission; the result is an experiment that a worker can run.

The client's JSON is an experiment file with references instead of paths: a dataset and a corpus by
their SHA-256, translators by their ids, models by the names of a listed pair.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from statebridge.demo.experiment import TAUGHT_CELLS
from statebridge.errors import ExperimentError, nearest
from statebridge.experiment import PRESETS, experiment_cells
from statebridge.experiment.experiment import Corpus, Experiment, Fit
from statebridge.experiment.reading.files import check_fields
from statebridge.experiment.reading.yaml_text import Lines
from statebridge.experiment.translator_settings import FUSER_KIND, RESAMPLER_KIND
from statebridge_server.references import References
from statebridge_server.settings import Limits, ListedPair, Settings
from statebridge_server.store.database import Database
from statebridge_server.store.keys import Principal
from statebridge_server.store.tables import DatasetHolder

_MAPS = ("device_map", "sender_device_map")

_PLACEHOLDERS = 8
"""Largest number of placeholders in one template."""


@dataclass(frozen=True, slots=True)
class Submission:
    """A checked experiment, its pair, its number of lanes and its inputs."""

    experiment: Experiment
    pair: str
    lanes: int
    inputs: tuple[tuple[str, str], ...]


def check_submission(
    body: Any,
    settings: Settings,
    database: Database,
    principal: Principal,
    lines: Lines | None = None,
) -> Submission:
    """Turn a client's JSON into an experiment whose paths are the server's own.

    `lines` is the line of each field, where the client sent a file's text.

    Raises:
        ExperimentError: A field is wrong or beyond a limit; the message names it.
    """
    if not isinstance(body, dict):
        raise ExperimentError("experiment: send one JSON object with an experiment's fields")
    data = dict(body)
    if data.get("remote") is not None:
        raise ExperimentError("remote: leave it out; the operator chooses where a pair runs")
    if any(data.get(name) is not None for name in ("layer_search", "sweep")):
        raise ExperimentError(
            "layer_search: a server runs one pair of layers at a time; submit an experiment for "
            "each, or use `statebridge layer-search` where the models are"
        )
    references = References(database, principal)
    dataset = references.dataset(data)
    references.translators(data)
    _check_placement(data.get("execution"))
    pair = _pair(data, settings)
    experiment = check_fields(data, lines=lines)
    if experiment.dtype not in settings.pairs[pair].dtypes:
        raise ExperimentError(
            f"dtype: pair {pair} is served in {', '.join(settings.pairs[pair].dtypes)}"
        )
    if any(cell.condition.state_file is not None for cell in experiment_cells(experiment)):
        raise ExperimentError(
            "conditions: source file goes with runs on one's own machine; a server reads no paths"
        )
    lanes = _check_limits(experiment, settings, dataset)
    for fit in experiment.translator_sets.values():
        if isinstance(fit, Fit):
            _check_fit_limits(fit, settings, references)
    return Submission(experiment, pair, lanes, tuple(dict.fromkeys(references.inputs)))


def public_experiment(stored: Mapping[str, Any], pair: ListedPair | None) -> dict[str, Any]:
    """Return a resolved experiment with references instead of paths."""
    shown = dict(stored)
    shown["dataset"] = _without_path(stored["dataset"])
    translators = stored.get("translators")
    if isinstance(translators, dict):
        if "sets" in translators:
            sets = translators["sets"]
            shown["translators"] = {"sets": {name: _shown_set(sets[name]) for name in sets}}
        else:
            shown["translators"] = _shown_set(translators)
    if stored.get("execution"):
        hidden = (*_MAPS, "sender_device")
        shown["execution"] = {k: v for k, v in stored["execution"].items() if k not in hidden}
    if pair is not None:
        for side in ("sender", "receiver"):
            # Which host the operator uses is not the client's concern.
            shown[side] = {k: v for k, v in stored[side].items() if v is not None and k != "remote"}
    return shown


def _shown_set(translators: Mapping[str, Any]) -> dict[str, Any]:
    if "corpus" not in translators:
        return {seed: Path(path).stem for seed, path in translators.items()}
    fit = dict(translators)
    fit["corpus"] = _without_path(fit["corpus"])
    if fit.get("causal") is not None:
        fit["causal"] = {**fit["causal"], "rows": _without_path(fit["causal"]["rows"])}
    return {"fit": fit}


def _without_path(declared: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in declared.items() if key != "path" and value is not None}


def _check_placement(execution: Any) -> None:
    if not isinstance(execution, Mapping):
        return
    free = {"executor": "in_process", "device": "auto"}
    for field in ("executor", "device", *_MAPS, "sender_device", "worker_gpus"):
        if execution.get(field) not in (None, free.get(field)):
            raise ExperimentError(f"execution.{field}: leave it out; the operator chooses it")


def _pair(data: dict[str, Any], settings: Settings) -> str:
    sides: dict[str, dict[str, Any]] = {}
    for side in ("sender", "receiver"):
        declared = data.get(side)
        if not isinstance(declared, dict) or not isinstance(declared.get("model"), str):
            raise ExperimentError(f"{side}: give {{model: ..., layer: ...}}")
        for field, chosen in (("remote", "where a pair runs"), ("adapter", "its adapters")):
            if declared.get(field) is not None:
                raise ExperimentError(
                    f"{side}.{field}: leave it out; the operator chooses {chosen}"
                )
        sides[side] = declared
    for name, listed in settings.pairs.items():
        both = {"sender": listed.sender, "receiver": listed.receiver}
        if all(
            sides[side]["model"] == model.public_name
            and sides[side].get("revision") in (None, model.revision)
            for side, model in both.items()
        ):
            for side, model in both.items():
                # The manifest records the revision and the weights that run, and where.
                weights = (
                    None
                    if model.weights is None
                    else model.weights.model_dump(exclude_defaults=True)
                )
                if sides[side].get("weights") not in (None, weights):
                    raise ExperimentError(
                        f"{side}.weights: leave it out; the operator chooses its weights"
                    )
                more = {"revision": model.revision, "remote": model.remote, "weights": weights}
                data[side] = {**sides[side], **more}
            _lay(data, listed)
            return name
    asked = [str(sides[side]["model"])[:100] for side in ("sender", "receiver")]
    known = [f"{p.sender.public_name} to {p.receiver.public_name}" for p in settings.pairs.values()]
    raise ExperimentError(
        f"sender, receiver: {asked[0]} to {asked[1]} is not a pair of this server; "
        + (nearest(" to ".join(asked), known) if known else "it lists none")
    )


def _lay(data: dict[str, Any], listed: ListedPair) -> None:
    """Declare the device maps of a listed pair: what does not go with them is refused at once."""
    sender, receiver = listed.sender.device_map, listed.receiver.device_map
    execution = data.get("execution") or {}
    if (sender, receiver) != (None, None) and isinstance(execution, Mapping):
        laid: dict[str, Any] = {"device_map": receiver, "sender_device_map": sender}
        if sender is None:
            laid["sender_device"] = "auto"
        data["execution"] = {**execution, **laid}


def _check_limits(experiment: Experiment, settings: Settings, held: DatasetHolder | None) -> int:
    """Check every limit; return the largest number of lanes of the run, without its controls."""
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
    return lanes


def _control_lanes(experiment: Experiment, settings: Settings, rows: int) -> int:
    """Return the largest number of lanes of the positive controls."""
    declared = experiment.positive_control
    if declared is None:
        return 0
    cells = len(PRESETS["positive-control"]) + len(experiment.seeds) - 1
    lanes = cells * min(rows, declared.rows)
    if declared.taught_pair:
        _at_most("positive_control.rows", declared.rows, settings.limits.rows)
        lanes += TAUGHT_CELLS * declared.rows
    return lanes


def _check_corpus_limits(corpus: Corpus, limits: Limits, references: References) -> None:
    where = "translators.fit.corpus"
    if corpus.generate is not None:
        passages = corpus.generate.rows
        _at_most(f"{where}.generate.rows", passages, limits.rows)
    else:
        held = 0 if corpus.sha256 is None else references.passages[corpus.sha256]
        passages = min(corpus.max_passages, held)
        _at_most(f"{where}.max_passages", passages, limits.rows)
    positions = passages * (corpus.max_tokens if corpus.positions == "all" else 1)
    _at_most(f"{where}: passages times max_tokens", positions, limits.fit_positions)


def _check_fit_limits(fit: Fit, settings: Settings, references: References) -> None:
    limits = settings.limits
    if fit.corpus is not None:
        _check_corpus_limits(fit.corpus, limits, references)
    made = max(fit.fuser.hidden_dim, fit.fuser.inner_dim or 0)
    if fit.kind == FUSER_KIND:
        _at_most("translators.fit.fuser.hidden_dim", made, limits.fit_hidden_dim)
    if fit.kind == RESAMPLER_KIND:
        width = fit.resampler.hidden_dim
        _at_most("translators.fit.resampler.hidden_dim", width, limits.fit_hidden_dim)
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
