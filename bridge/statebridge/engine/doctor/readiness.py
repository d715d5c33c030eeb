"""Whether a run can succeed, found out before it starts; no weights are loaded."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
import transformers
from huggingface_hub import try_to_load_from_cache

from statebridge.data import sha256_file
from statebridge.engine.doctor.prompt_check import check_prompts
from statebridge.engine.executors.executor import check_names
from statebridge.engine.fitting.causal_rows import choose_rows
from statebridge.engine.fitting.corpus import read_corpus
from statebridge.engine.planning.groups import free_bytes
from statebridge.errors import PairError, StatebridgeError
from statebridge.experiment.cells import experiment_cells
from statebridge.experiment.experiment import Experiment, Fit, ModelAtLayer
from statebridge.experiment.files import is_model_folder
from statebridge.models.families import hidden_width
from statebridge.models.hosts import find_host
from statebridge.models.pair import Pair, pair_devices, same_device
from statebridge.models.traced_model import TracedModel
from statebridge.records import DatasetRow
from statebridge.tasks.declared_rows import resolve_dataset
from statebridge.translators import load_translator

ROW_BYTES = 2000
"""Bytes of one committed lane; the measured mean is below it for 64 new tokens."""

EFFICIENCY = 0.6
"""Share of the measured matrix throughput that the shared path reaches; for the time estimate."""

HERE = {None, "local"}
"""Values of `remote` with which the weights are on this machine."""

WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that a run needs."""

    what: str
    ready: bool
    detail: str
    """Where ready, what was found; else what is missing and what would be right."""


@dataclass(frozen=True, slots=True)
class _Structure:
    """A model without weights, from its configuration."""

    module: torch.nn.Module
    tokenizer: Any
    weights: int
    """Number of its weights."""


def check_readiness(experiment: Experiment, out: Path | None = None) -> Iterator[Check]:
    """Yield one check after another: names, dataset, models, layers, translators, sizes, time.

    Nothing is downloaded and no weights are read into memory. A check that depends on one
    that failed is left out.

    Args:
        out: Where the run would be written; the working directory if not given.
    """
    rows: list[DatasetRow] = []

    def dataset() -> str:
        found, digest = resolve_dataset(experiment.dataset)
        rows.extend(found)
        return f"{len(found)} rows, sha256 {digest}"

    yield _check("names", lambda: check_names(experiment))
    yield _check("dataset", dataset)
    structures: dict[str, _Structure] = {}
    for name, side in (("sender", experiment.sender), ("receiver", experiment.receiver)):

        def model(name: str = name, side: ModelAtLayer = side) -> str:
            here = (side.remote or experiment.remote) in HERE
            structures[name] = _structure(side, needed=here)
            where = "in place" if here else "on the host"
            return f"{side.model}: {structures[name].weights / 1e6:.0f} M weights, {where}"

        yield _check(name, model)
    if not set(experiment.remotes) <= HERE:
        yield _check("host", lambda: _hosts(experiment))
    devices: dict[str, torch.device] = {}

    def find_device() -> str:
        devices["sender"], devices["receiver"] = pair_devices(experiment.execution)
        if same_device(devices["sender"], devices["receiver"]):
            return str(devices["receiver"])
        return f"sender on {devices['sender']}, receiver on {devices['receiver']}"

    yield _check("device", find_device)
    if len(structures) < 2:
        return
    pairs: list[Pair] = []

    def layers() -> str:
        sides = (
            TracedModel.without_weights(
                structures[name].module, structures[name].tokenizer, side.layer, side.model
            )
            for name, side in (("sender", experiment.sender), ("receiver", experiment.receiver))
        )
        pairs.append(pair := Pair(*sides))
        return f"sender {pair.sender.layer_path}, receiver {pair.receiver.layer_path}"

    yield _check("layers", layers)
    if rows and pairs:
        yield _check("prompts", lambda: check_prompts(experiment, pairs[0], rows))
    yield _check("translators", lambda: _translators(experiment, structures, rows))
    yield _check("disk", lambda: _disk(experiment, len(rows), out or Path.cwd()))
    if devices and set(experiment.remotes) <= HERE:
        yield _check("memory", lambda: _memory(experiment, structures, devices))
        if rows:
            yield _check("time", lambda: _time(experiment, structures, rows, devices["receiver"]))


def _check(what: str, find: Callable[[], str]) -> Check:
    try:
        return Check(what, True, find())
    except StatebridgeError as error:
        return Check(what, False, str(error))


def _structure(side: ModelAtLayer, *, needed: bool) -> _Structure:
    local = is_model_folder(side.model)
    source = str(Path(side.model).expanduser()) if local else side.model
    where: dict[str, Any] = {
        "revision": side.revision,
        "local_files_only": True,
        "trust_remote_code": False,
    }
    try:
        config = transformers.AutoConfig.from_pretrained(source, **where)
        tokenizer = transformers.AutoTokenizer.from_pretrained(source, **where)
        with torch.device("meta"):
            module = transformers.AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    except OSError:
        raise PairError(_absent(side, "configuration or tokenizer", local=local)) from None
    except Exception as error:  # a dozen kinds, from a dozen parsers of damaged files
        reason = shorten(str(error), 200, placeholder=" ...") or type(error).__name__
        raise PairError(f"{side.model}: is no causal language model: {reason}") from None
    if local:
        weights = any((Path(source) / name).exists() for name in WEIGHT_FILES)
    else:
        weights = any(
            isinstance(try_to_load_from_cache(source, name, revision=side.revision), str)
            for name in WEIGHT_FILES
        )
    if needed and not weights:
        raise PairError(_absent(side, "weights", local=local))
    return _Structure(module, tokenizer, sum(part.numel() for part in module.parameters()))


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


def _absent(side: ModelAtLayer, what: str, *, local: bool) -> str:
    if local:
        return f"{side.model}: no {what} in that folder; give one written by save_pretrained"
    revision = f" --revision {side.revision}" if side.revision else ""
    return (
        f"{side.model}: no {what} in the local cache; fetch it where there is a network: "
        f"hf download {side.model}{revision}"
    )


def _translators(
    experiment: Experiment, structures: Mapping[str, _Structure], rows: list[DatasetRow]
) -> str:
    used = {experiment.translator_set(c) for c in experiment.resolved_conditions if c.translates}
    if not used:
        return "none needed"
    found = [
        _translator_set(experiment, declared, structures, rows)
        for name, declared in experiment.translator_sets.items()
        if name in used
    ]
    return "; ".join(found)


def _translator_set(
    experiment: Experiment,
    declared: Mapping[int, Path] | Fit,
    structures: Mapping[str, _Structure],
    rows: list[DatasetRow],
) -> str:
    if isinstance(declared, Fit):
        corpus = read_corpus(declared.corpus, experiment.prompts, rows)
        how = "fitted"
        if declared.causal is not None:
            chosen = choose_rows(declared.causal, rows)
            how = f"trained through the receiver on {len(chosen.rows)} rows after a fit"
        return f"to be {how} ({declared.kind}) on {len(corpus.passages)} passages"
    needed = tuple(hidden_width(structures[side].module) for side in ("sender", "receiver"))
    for seed in experiment.seeds:
        path = declared[seed]
        translator = load_translator(path)
        if (translator.width_in, translator.width_out) != needed:
            raise PairError(
                f"{path}: maps width {translator.width_in} to {translator.width_out}; the pair "
                f"needs {needed[0]} to {needed[1]}"
            )
        sha256_file(path)
    return f"{len(experiment.seeds)} files, width {needed[0]} to {needed[1]}"


def _lanes(experiment: Experiment, rows: int) -> int:
    return len(experiment_cells(experiment)) * min(experiment.limit or rows, rows)


def _disk(experiment: Experiment, rows: int, out: Path) -> str:
    existing = next(folder for folder in (out, *out.absolute().parents) if folder.is_dir())
    needed = _lanes(experiment, rows) * ROW_BYTES
    free = shutil.disk_usage(existing).free
    if free < 2 * needed:
        raise PairError(
            f"{existing}: {free / 1e6:.0f} MB free, about {needed / 1e6:.0f} MB will be written; "
            "give an --out with at least twice that"
        )
    return f"about {needed / 1e6:.1f} MB to write, {free / 1e9:.1f} GB free"


def _memory(
    experiment: Experiment,
    structures: Mapping[str, _Structure],
    devices: Mapping[str, torch.device],
) -> str:
    if not same_device(devices["sender"], devices["receiver"]):
        return "; ".join(
            _memory_on(experiment, structures, [side], device) for side, device in devices.items()
        )
    same = experiment.sender.model == experiment.receiver.model
    sides = ["receiver"] if same else ["sender", "receiver"]
    return _memory_on(experiment, structures, sides, devices["receiver"])


def _memory_on(
    experiment: Experiment,
    structures: Mapping[str, _Structure],
    sides: Sequence[str],
    device: torch.device,
) -> str:
    item = torch.finfo(getattr(torch, experiment.dtype)).bits // 8
    weights = sum(structures[side].weights for side in sides) * item
    free = free_bytes(device)
    if free < weights * 1.2:
        raise PairError(
            f"{device}: {free / 1e9:.1f} GB free, the weights alone take {weights / 1e9:.1f} GB; "
            "use a narrower dtype or a device with more memory"
        )
    return f"weights {weights / 1e9:.2f} GB, {free / 1e9:.1f} GB free on {device}"


def _time(
    experiment: Experiment,
    structures: Mapping[str, _Structure],
    rows: list[DatasetRow],
    device: torch.device,
) -> str:
    """Estimate from twice the receiver's weights per token and the measured throughput."""
    count = min(experiment.limit or len(rows), len(rows))
    tokenizer = structures["receiver"].tokenizer
    sample = rows[: min(count, 64)]
    prompt = sum(len(tokenizer(row.context + row.question)["input_ids"]) for row in sample)
    new_tokens = experiment.decoding.max_new_tokens if experiment.decode else 0
    tokens = _lanes(experiment, len(rows)) * (prompt / len(sample) / 2 + new_tokens)
    seconds = 2 * structures["receiver"].weights * tokens / (EFFICIENCY * _throughput(device))
    return f"about {_duration(seconds)} for {_lanes(experiment, len(rows))} lanes (rough)"


def _throughput(device: torch.device) -> float:
    """Return float32 multiply-add operations per second of a matrix product, times two."""
    a = torch.ones((128, 1024), device=device)
    b = torch.ones((1024, 4096), device=device)
    best = 0.0
    for _ in range(5):
        start = time.perf_counter()
        product = a @ b
        float(product[0, 0])  # waits for the device
        best = max(best, 2 * 128 * 1024 * 4096 / (time.perf_counter() - start))
    return best


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 5400:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"
