"""Carrying an experiment out: load, check, plan, run group by group, commit."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

import torch

from statebridge.data import sha256_file, write_jsonl
from statebridge.engine.fitting import fit_translators, read_corpus
from statebridge.engine.lane_result import LaneRow
from statebridge.engine.plain_sweep import PlainSweep
from statebridge.engine.plan import Group, lane_count, plan_groups
from statebridge.engine.shared_sweep import SharedSweep
from statebridge.engine.sizing import choose_max_lanes
from statebridge.engine.workload import Workload, prepare
from statebridge.errors import ResultError
from statebridge.models.loading import weights_sha256
from statebridge.models.pair import Pair, load_pair
from statebridge.models.traced_model import TracedModel
from statebridge.results.table import DatasetRow
from statebridge.runs.directory import DATASET, FORMAT, RunDirectory, open_run
from statebridge.spec.experiment import Experiment, Fit
from statebridge.spec.resolve_dataset import resolve_dataset
from statebridge.translators import Translator, load_translator, save_translator
from statebridge.translators.storage import card_path

Progress = Callable[[str, int, int], None]
"""Called with a stage (`load`, `capture`, `train`, `quality`, `run`), done, and total."""


class Sweep(Protocol):
    """Runs groups of rows; nobody needs to know where."""

    def run(self, group: Group) -> list[LaneRow]:
        """Return the group's lanes in the order in which they are committed."""


@dataclass(frozen=True, slots=True)
class RunSummary:
    """What a call of `run_experiment` did."""

    directory: Path
    lanes: int
    """Lanes of the whole run."""
    resumed_lanes: int
    """Lanes that were there already."""
    seconds: float
    """Wall time of this call's groups."""


def run_experiment(
    experiment: Experiment,
    out: str | Path,
    *,
    pair: Pair | None = None,
    progress: Progress = lambda *_: None,
) -> RunSummary:
    """Carry an experiment out into a run directory; go on where an earlier call stopped.

    Args:
        experiment: As declared.
        out: The run directory; made if needed.
        pair: A pair that is loaded already; loaded from the experiment if not given.
        progress: Called as work goes on.

    Raises:
        StatebridgeError: Whatever is wrong, before a row is run where it can be known then.
    """
    with open_run(out) as directory:
        rows, dataset_sha256 = resolve_dataset(experiment.dataset)
        progress("load", 0, 1)
        pair = pair or load_pair(experiment)
        progress("load", 1, 1)
        translators, origins = _translators(experiment, pair, rows, directory, progress)
        workload = prepare(experiment, pair, rows, translators)
        identity = {
            "experiment": experiment.model_dump(mode="json", exclude={"execution"}),
            "path": experiment.path,
            "dataset": {"sha256": dataset_sha256, "rows": len(rows)},
            "pair": {"sender": _side(pair.sender), "receiver": _side(pair.receiver)},
            "translators": origins,
            "versions": _versions(),
            "device": _device(pair.receiver.device),
            "threads": torch.get_num_threads(),
        }
        earlier = directory.read_manifest()
        if earlier is not None:
            _same_run(identity, earlier, directory.path)
            max_lanes = int(earlier["plan"]["max_lanes"])
        else:
            max_lanes = choose_max_lanes(workload)
        groups = plan_groups(workload, max_lanes)
        lane_counts = [lane_count(workload, group) for group in groups]
        if earlier is None:
            write_jsonl(rows[: workload.limit], directory.path / DATASET)
            plan = {"max_lanes": max_lanes, "lanes": lane_counts}
            directory.write_manifest(_manifest(identity, workload, plan))
        done = directory.committed_groups(lane_counts)
        seconds = _run_groups(workload, groups, done, lane_counts, max_lanes, directory, progress)
        return RunSummary(directory.path, sum(lane_counts), sum(lane_counts[:done]), seconds)


def _run_groups(
    workload: Workload,
    groups: Sequence[Group],
    done: int,
    lane_counts: Sequence[int],
    max_lanes: int,
    directory: RunDirectory,
    progress: Progress,
) -> float:
    sweep: Sweep = (
        SharedSweep(workload, max_lanes)
        if workload.experiment.path == "shared"
        else PlainSweep(workload)
    )
    total, finished = sum(lane_counts), sum(lane_counts[:done])
    progress("run", finished, total)
    if done == len(groups):
        return 0.0
    began, clock = datetime.now(UTC), time.monotonic()
    committed = done
    try:
        for group in groups[done:]:
            lanes = sweep.run(group)
            directory.commit(group.index, [(cell.name, row) for cell, _, row in lanes])
            committed += 1
            finished += lane_counts[group.index]
            progress("run", finished, total)
    finally:
        seconds = time.monotonic() - clock
        if committed > done:
            directory.record_session(
                {
                    "started_at": began.isoformat(timespec="seconds"),
                    "seconds": round(seconds, 3),
                    "lanes": sum(lane_counts[done:committed]),
                }
            )
    return seconds


def _translators(
    experiment: Experiment,
    pair: Pair,
    rows: Sequence[DatasetRow],
    directory: RunDirectory,
    progress: Progress,
) -> tuple[dict[int, Translator], dict[str, Any]]:
    """Return translators by seed, and where each comes from."""
    declared = experiment.translators
    if declared is None or not any(c.translates for c in experiment.resolved_conditions):
        return {}, {}
    files = (
        _fitted_files(experiment, declared, pair, rows, directory, progress)
        if isinstance(declared, Fit)
        else {seed: declared[seed] for seed in experiment.seeds}
    )
    dtype = torch.float64 if pair.receiver.dtype == torch.float64 else torch.float32
    translators: dict[int, Translator] = {}
    origins: dict[str, Any] = {}
    for seed, path in files.items():
        translator = load_translator(path, dtype=dtype, device=pair.receiver.device)
        translators[seed] = translator
        origins[str(seed)] = {
            "file": path.name,
            "sha256": sha256_file(path),
            "kind": translator.kind,
            "quality": (
                [report.model_dump(mode="json") for report in translator.card.quality]
                if translator.card
                else []
            ),
        }
    return translators, origins


def _fitted_files(
    experiment: Experiment,
    fit: Fit,
    pair: Pair,
    rows: Sequence[DatasetRow],
    directory: RunDirectory,
    progress: Progress,
) -> Mapping[int, Path]:
    folder = directory.path / "translators"
    files = {seed: folder / f"seed{seed}.safetensors" for seed in experiment.seeds}
    # The card is written last: without it the process was killed in between.
    missing = [seed for seed, path in files.items() if not card_path(path).exists()]
    if missing:
        corpus = read_corpus(fit.corpus, experiment.prompts, rows)
        for seed, translator in fit_translators(pair, fit, corpus, missing, progress).items():
            save_translator(translator, files[seed])
    return files


def _manifest(
    identity: Mapping[str, Any], workload: Workload, plan: Mapping[str, Any]
) -> dict[str, Any]:
    cells = []
    for cell in workload.cells:
        rows = sum(workload.included(cell, row) for row in range(workload.limit))
        cells.append(
            {
                "name": cell.name,
                "seed": cell.seed,
                "rows": rows,
                "excluded_rows": workload.limit - rows,
                "condition": cell.condition.model_dump(mode="json"),
            }
        )
    return {
        "format": FORMAT,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        **identity,
        "execution": workload.experiment.execution.model_dump(mode="json"),
        "git_revision": _git_revision(),
        "cells": cells,
        "plan": plan,
    }


def _side(model: TracedModel) -> dict[str, Any]:
    return {
        "model": model.name,
        "revision": model.revision,
        "layer": model.layer,
        "layer_path": model.layer_path,
        "blocks": len(model.block_paths),
        "width": model.width,
        "weights_sha256": weights_sha256(model.module),
    }


def _same_run(identity: Mapping[str, Any], earlier: Mapping[str, Any], path: Path) -> None:
    """Refuse to go on with a run that was started as something else."""
    for key, value in identity.items():
        if earlier.get(key) == value:
            continue
        what = key
        if isinstance(value, dict) and isinstance(earlier.get(key), dict):
            differing = [
                k for k in {**earlier[key], **value} if earlier[key].get(k) != value.get(k)
            ]
            what = f"{key}.{differing[0]}"
        raise ResultError(
            f"{path}: was started with another {what}; give a new --out, or run the experiment "
            "that the directory's manifest.json states"
        )


_PACKAGES = ("statebridge", "torch", "transformers", "nnsight", "tokenizers", "numpy")


def _versions() -> dict[str, str]:
    versions = {"python": ".".join(str(part) for part in sys.version_info[:3])}
    for package in _PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return versions


def _device(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def _git_revision() -> str | None:
    """Return the revision of the checkout that the library runs from; None outside of one."""
    with suppress(OSError, subprocess.SubprocessError):
        found = subprocess.run(
            ["git", "rev-parse", "HEAD"],  # noqa: S607 - whichever git the user has
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
        return found.stdout.strip() or None
    return None
