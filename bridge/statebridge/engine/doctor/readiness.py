"""Whether a run can succeed, found out before it starts; no weights are loaded.

The checks are the run's own, and all of them are made: a check that depends on one that failed
is left out.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch

from statebridge.channels.messages.message_maps import empty_message_map
from statebridge.channels.workload import Workload
from statebridge.engine.cautions import check_scoring, run_cautions
from statebridge.engine.doctor.estimate import estimate, throughput
from statebridge.engine.doctor.prompt_check import describe_prompts
from statebridge.engine.doctor.structure import Structure, structure_of
from statebridge.engine.executors.executor import check_names, executor_ready
from statebridge.engine.fitting.corpus import read_corpus
from statebridge.engine.fitting.fit_check import FitSize, check_fit
from statebridge.engine.fitting.frozen_rows import prepare_rows
from statebridge.engine.fitting.run_translators import check_origin
from statebridge.engine.layer_search.search import searched_layers, split_declared
from statebridge.engine.planning.groups import free_bytes
from statebridge.engine.planning.positive_control import taught_experiment
from statebridge.engine.planning.prepare import prepare, stand_ins
from statebridge.errors import EnvironmentFault, PairError, ResultError, StatebridgeError
from statebridge.experiment.cells import experiment_cells
from statebridge.experiment.experiment import Experiment, Fit, ModelAtLayer
from statebridge.experiment.translator_settings import MESSAGE_KINDS
from statebridge.models.hosts import find_host
from statebridge.models.loading import loaded_name
from statebridge.models.pair import Pair, pair_devices, same_device
from statebridge.models.placement import check_map
from statebridge.models.quantized import (
    check_hardware,
    check_weights_are_possible,
    weight_bytes,
)
from statebridge.models.traced_model import TracedModel
from statebridge.records import DatasetRow
from statebridge.results.service_records import DoctorCheck
from statebridge.runs.directory import MANIFEST, check_place, read_manifest
from statebridge.runs.same_run import check_same
from statebridge.tasks.declared_rows import resolve_dataset
from statebridge.translators import load_translator

HERE = {None, "local"}
"""Values of `remote` with which the weights are on this machine."""

ROW_BYTES = 2000
"""Bytes of one committed lane; the measured mean is below it for 64 new tokens."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Another process that holds the pair and will run the experiment.

    What would need a part of its accelerator's memory is not asked, and weights that it has loaded
    are not counted again.
    """

    structure: Callable[[ModelAtLayer, Literal["sender", "receiver"]], Structure]
    """Returns a side's model without weights."""
    loaded: bool
    """Whether it has loaded the weights."""
    operations_per_second: float | None = None
    """Throughput of its device, where it has measured it."""


@dataclass(slots=True)
class _Found:
    """Findings of the checks so far."""

    rows: list[DatasetRow] = field(default_factory=list)
    structures: dict[str, Structure] = field(default_factory=dict)
    devices: dict[str, torch.device] = field(default_factory=dict)
    pair: Pair | None = None
    work: Workload | None = None
    fits: dict[str, tuple[Fit, FitSize, int]] = field(default_factory=dict)


def check_readiness(
    experiment: Experiment, out: Path | None = None, holder: Holder | None = None
) -> Iterator[DoctorCheck]:
    """Yield one check after another: names, dataset, models, layers, translators, sizes, time.

    Nothing is downloaded and no weights are read into memory. A check that depends on one
    that failed is left out. Cautions are checks of that name, and are ready.

    Args:
        experiment: As declared.
        out: Where the run would be written; the working directory if not given.
        holder: The process that will run it; this one if not given.
    """
    found, here = _Found(), set(experiment.remotes) <= HERE
    names = _check("names", lambda: check_names(experiment))
    yield names
    yield _check("dataset", lambda: _dataset(experiment, found))
    sides: tuple[Literal["sender", "receiver"], ...] = ("sender", "receiver")
    for side in sides:
        yield _check(side, lambda side=side: _model(experiment, side, found, holder))  # type: ignore[misc]
    if not here:
        yield _check("host", lambda: _hosts(experiment))
    yield _check("device", lambda: _device(experiment, found))
    if names.ready and experiment.execution.executor != "in_process":
        yield _check("executor", lambda: executor_ready(experiment))
    yield _check("disk", lambda: _disk(experiment, len(found.rows), out))
    if experiment.positive_control is not None:
        yield _check("taught pair", lambda: _taught(experiment))
    if len(found.structures) < 2:
        return
    yield _check("layers", lambda: _layers(experiment, found))
    pair, rows = found.pair, found.rows
    if pair is not None and rows and names.ready:
        yield _check("prompts", lambda: _prompts(experiment, pair, found))
        yield _check("translators", lambda: _translators(experiment, pair, found))
    measured_here = holder is None or all(each.type == "cpu" for each in found.devices.values())
    # How much of a model that is laid over several devices each gets is known once it is loaded.
    on_one = experiment.device_maps == (None, None)
    if found.devices and here and measured_here and on_one and not (holder and holder.loaded):
        yield _check("memory", lambda: _memory(experiment, found.structures, found.devices))
    work = found.work
    if work is not None and found.devices and here:
        speed = holder.operations_per_second if holder else None
        if speed is None and measured_here:
            speed = throughput(found.devices["receiver"])
        if speed is not None:
            yield _check("time", lambda: estimate(work, found.fits, speed))
    if work is not None:
        yield from (
            DoctorCheck(what="caution", ready=True, detail=text) for text in run_cautions(work)
        )


def _check(what: str, find: Callable[[], str]) -> DoctorCheck:
    try:
        return DoctorCheck(what=what, ready=True, detail=find())
    except StatebridgeError as error:
        return DoctorCheck(what=what, ready=False, detail=str(error))


def _dataset(experiment: Experiment, found: _Found) -> str:
    rows, digest = resolve_dataset(experiment.dataset)
    check_scoring(rows[: experiment.limit])
    split_declared(experiment, rows[: experiment.limit])
    found.rows = rows
    return f"{len(rows)} rows, sha256 {digest}"


def _model(
    experiment: Experiment,
    side: Literal["sender", "receiver"],
    found: _Found,
    holder: Holder | None,
) -> str:
    declared = getattr(experiment, side)
    here = (declared.remote or experiment.remote) in HERE
    structure = found.structures[side] = (
        structure_of(declared, needed=here) if holder is None else holder.structure(declared, side)
    )
    if here:
        check_weights_are_possible(declared.weights, structure.module.config, declared.model)
    where = "in place" if here else "on the host"
    return f"{declared.model}: {structure.weights / 1e6:.0f} M weights, {where}"


def _hosts(experiment: Experiment) -> str:
    """Ask the remote host for its state of each model, the key, dtype and versions."""
    found: dict[str, None] = {}
    for side, remote in zip(
        (experiment.sender, experiment.receiver), experiment.remotes, strict=True
    ):
        facts = find_host(remote).facts(side.model)
        if facts is None:
            continue
        if facts["dtype"] not in (None, experiment.dtype):
            raise PairError(
                f"{side.model}: computes in {facts['dtype']} on {facts['host']}, and "
                f"{experiment.dtype} is declared; write dtype: {facts['dtype']}"
            )
        versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
        found[f"{side.model} {facts['state']} on {facts['host']} ({versions})"] = None
    return "; ".join(found)


def _device(experiment: Experiment, found: _Found) -> str:
    sender, receiver = pair_devices(experiment.execution)
    maps = experiment.device_maps
    for name, declared in zip(("sender_device_map", "device_map"), maps, strict=True):
        if declared is not None:
            check_map(declared, f"execution.{name}")
    for side, device in ((experiment.sender, sender), (experiment.receiver, receiver)):
        check_hardware(side.weights, device, side.model)
    found.devices = {"sender": sender, "receiver": receiver}
    if maps != (None, None):
        gpus = experiment.execution.worker_gpus or torch.cuda.device_count()
        sides = (_laid(maps[0], sender, gpus), _laid(maps[1], receiver, gpus))
        return f"sender on {sides[0]}, receiver on {sides[1]}"
    if same_device(sender, receiver):
        return str(receiver)
    return f"sender on {sender}, receiver on {receiver}"


def _laid(device_map: str | dict[str, str] | None, device: torch.device, gpus: int) -> str:
    if isinstance(device_map, str):
        return f"{device_map} over {gpus} GPUs"
    return str(device) if device_map is None else ", ".join(sorted(set(device_map.values())))


def _taught(experiment: Experiment) -> str:
    declared = taught_experiment(experiment, "cpu")
    return "not asked for" if declared is None else "in place"


def _layers(experiment: Experiment, found: _Found) -> str:
    sides = {}
    searching = experiment.layer_search is not None
    for name, side in (("sender", experiment.sender), ("receiver", experiment.receiver)):
        module, tokenizer = found.structures[name].module, found.structures[name].tokenizer
        try:
            sides[name] = TracedModel.without_weights(
                module, tokenizer, 0 if searching else side.layer, loaded_name(side)
            )
        except PairError as error:
            raise PairError(f"{name}.layer: {error}") from None
    found.pair = pair = Pair(sides["sender"], sides["receiver"])
    if experiment.layer_search is not None:
        return f"{len(searched_layers(pair, experiment.layer_search))} pairs of layers"
    return f"sender {pair.sender.layer_path}, receiver {pair.receiver.layer_path}"


def _prompts(experiment: Experiment, pair: Pair, found: _Found) -> str:
    found.work = prepare(experiment, pair, found.rows, stand_ins(experiment, pair))
    return describe_prompts(found.work)


def _translators(experiment: Experiment, pair: Pair, found: _Found) -> str:
    used = {experiment.translator_set(c) for c in experiment.resolved_conditions if c.translates}
    if not used:
        return "none needed"
    ready, wrong = [], []
    for name, declared in experiment.translator_sets.items():
        if name not in used:
            continue
        try:
            ready.append(
                _fit(experiment, name, declared, pair, found)
                if isinstance(declared, Fit)
                else _files(experiment, declared, pair)
            )
        except StatebridgeError as error:
            wrong.append(str(error))
    if wrong:
        raise PairError("; ".join(wrong))
    return "; ".join(ready)


def _fit(experiment: Experiment, name: str, fit: Fit, pair: Pair, found: _Found) -> str:
    corpus = read_corpus(fit.corpus, experiment.prompts, found.rows)
    size = check_fit(pair, fit, corpus, experiment.seeds)
    how, trained = "fitted", 0
    if fit.causal is not None:
        trained = len(prepare_rows(experiment, pair, fit.causal, found.rows)[0].rows)
        how = f"trained through the receiver on {trained} rows after a fit"
    found.fits[name] = fit, size, trained
    if fit.corpus is None:
        return f"to be trained through the receiver ({fit.kind}) on {trained} rows"
    cut = f", {size.cut} of them cut at {fit.corpus.max_tokens} tokens" if size.cut else ""
    return f"to be {how} ({fit.kind}) on {len(corpus.passages)} passages{cut}"


def _files(experiment: Experiment, declared: Mapping[int, Path], pair: Pair) -> str:
    states = widths = pair.sender.width, pair.receiver.width
    for seed in experiment.seeds:
        path = declared[seed]
        translator = load_translator(path)
        widths = translator.width_in, translator.width_out
        needed = states
        if translator.kind in MESSAGE_KINDS:
            made = empty_message_map(pair, translator.kind, None)
            needed = made.width_in, made.width_out
        if widths != needed:
            raise PairError(
                f"{path}: maps width {widths[0]} to {widths[1]}; the pair "
                f"needs {needed[0]} to {needed[1]}"
            )
        check_origin(translator, path, pair)
    return f"{len(experiment.seeds)} files, width {widths[0]} to {widths[1]}"


def _disk(experiment: Experiment, rows: int, out: Path | None) -> str:
    place = out or Path.cwd()
    if out is not None and experiment.layer_search is None:
        check_place(out)
        earlier = read_manifest(out)
        if earlier is not None:
            asked = {"experiment": experiment.model_dump(mode="json", exclude={"execution"})}
            check_same(asked, earlier, out / MANIFEST, may_grow=True)
    elif out is not None and out.exists() and not out.is_dir():
        raise ResultError(f"{out}: is a file; give a directory")
    existing = next(folder for folder in (place, *place.absolute().parents) if folder.is_dir())
    lanes = len(experiment_cells(experiment)) * min(experiment.limit or rows, rows)
    if experiment.layer_search is not None:
        lanes *= len(experiment.layer_search.layer_pairs)
    needed, free = lanes * ROW_BYTES, shutil.disk_usage(existing).free
    if free < 2 * needed:
        raise EnvironmentFault(
            f"{existing}: {free / 1e6:.0f} MB free, about {needed / 1e6:.0f} MB will be written; "
            "give an --out with at least twice that"
        )
    return f"about {needed / 1e6:.1f} MB to write, {free / 1e9:.1f} GB free"


def _memory(
    experiment: Experiment,
    structures: Mapping[str, Structure],
    devices: Mapping[str, torch.device],
) -> str:
    item = torch.finfo(getattr(torch, experiment.dtype)).bits // 8

    def on(sides: list[str], device: torch.device) -> str:
        needed = [
            weight_bytes(structures[s].module, getattr(experiment, s).weights, item) for s in sides
        ]
        weights, free = sum(needed), free_bytes(device)
        if free < weights * 1.2:
            raise EnvironmentFault(
                f"{device}: {free / 1e9:.1f} GB free, the weights alone take "
                f"{weights / 1e9:.1f} GB; use a narrower dtype or a device with more memory"
            )
        return f"weights {weights / 1e9:.2f} GB, {free / 1e9:.1f} GB free on {device}"

    if not same_device(devices["sender"], devices["receiver"]):
        return "; ".join(on([side], device) for side, device in devices.items())
    same = all(
        getattr(experiment.sender, part) == getattr(experiment.receiver, part)
        for part in ("model", "weights")
    )
    return on(["receiver"] if same else ["sender", "receiver"], devices["receiver"])
