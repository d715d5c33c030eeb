"""Carrying an experiment out: load, check, plan, run group by group, commit."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from statebridge.channels.workload import Workload
from statebridge.data import write_jsonl
from statebridge.data.training_texts import TrainingTexts
from statebridge.engine.commit import PlannedRun, Progress, run_groups
from statebridge.engine.executors.executor import EXECUTORS, check_names
from statebridge.engine.fitting.run_translators import run_translators
from statebridge.engine.planning.groups import choose_max_lanes, grouped
from statebridge.engine.planning.positive_control import (
    control_experiment,
    control_pair,
    taught_experiment,
)
from statebridge.engine.planning.prepare import prepare
from statebridge.engine.reuse.lane_key import LaneKeys
from statebridge.engine.reuse.lane_reuse import NOTHING_REUSED, set_aside
from statebridge.engine.sender_checks.checks import run_sender_checks
from statebridge.engine.sender_checks.plan import plan_sender_checks
from statebridge.errors import ExperimentError, PairError
from statebridge.experiment.experiment import Experiment
from statebridge.models.families import shape_from_config
from statebridge.models.loading import weights_sha256
from statebridge.models.pair import Pair, load_pair
from statebridge.models.traced_model import TracedModel
from statebridge.results.sender_checks import write_sender_checks
from statebridge.results.training_overlap import FIELD, training_overlap
from statebridge.runs.directory import (
    DATASET,
    FORMAT,
    MANIFEST,
    POSITIVE_CONTROL,
    SENDER_CHECKS,
    TAUGHT_PAIR,
    RunDirectory,
    open_run,
)
from statebridge.runs.reuse import FitStore, LaneStore
from statebridge.runs.same_run import as_started, check_same
from statebridge.tasks.declared_rows import resolve_dataset
from statebridge.translators.storage import recorded_versions


@dataclass(frozen=True, slots=True)
class RunSummary:
    """The work of one call of `run_experiment`."""

    directory: Path
    lanes: int
    """Lanes of the whole run."""
    resumed_lanes: int
    """Lanes that were there already."""
    reused_lanes: int
    """Lanes of the whole run that were taken from earlier runs."""
    seconds: float
    """Wall time of this call's groups."""


def run_experiment(
    experiment: Experiment,
    out: str | Path,
    *,
    pair: Pair | None = None,
    progress: Progress = lambda *_: None,
    reuse: LaneStore | None = None,
    fits: FitStore | None = None,
) -> RunSummary:
    """Carry an experiment out into a run directory; go on where an earlier call stopped.

    Args:
        experiment: As declared.
        out: The run directory; made if needed.
        pair: A pair that is loaded already; loaded from the experiment if not given.
        progress: Called as work goes on.
        reuse: Store of lanes: those of earlier runs are taken rather than computed again, and
            this run's are recorded. Not used if the experiment sets `execution.reuse` to false.
        fits: The same for fitted translators.

    Raises:
        StatebridgeError: Whatever is wrong, before a row is run where it can be known then.
    """
    if experiment.layer_search is not None:
        raise ExperimentError(
            "layer_search: a run is at one pair of layers; start the file with "
            "`statebridge layer-search`"
        )
    check_names(experiment)
    with open_run(out) as directory:
        earlier = directory.read_manifest()
        experiment = as_started(experiment, earlier and earlier["experiment"])
        rows, dataset_sha256 = resolve_dataset(experiment.dataset)
        progress("load", 0, 1)
        pair = pair or load_pair(experiment)
        progress("load", 1, 1)
        translators, origins = run_translators(
            experiment,
            pair,
            rows,
            directory,
            progress,
            fits if experiment.execution.reuse else None,
        )
        workload = prepare(experiment, pair, rows, translators)
        checks = plan_sender_checks(workload) if experiment.sender_checks else None
        identity = {
            "experiment": experiment.model_dump(mode="json", exclude={"execution"}),
            "path": experiment.path,
            "dataset": {"sha256": dataset_sha256, "rows": len(rows)},
            "pair": {"sender": _side(pair.sender), "receiver": _side(pair.receiver)},
            "translators": origins,
            "versions": recorded_versions(_PACKAGES),
            "device": _device(pair.receiver.device),
            "sender_device": _other_device(pair),
            "threads": torch.get_num_threads(),
        }
        if earlier is not None:
            check_same(identity, earlier, directory.path / MANIFEST)
            max_lanes = int(earlier["plan"]["max_lanes"])
        else:
            max_lanes = choose_max_lanes(workload)
        workload = replace(workload, plan=grouped(workload.plan, max_lanes))
        lane_counts = workload.plan.lane_counts
        remember = None
        if reuse is not None and experiment.execution.reuse:
            keys = LaneKeys(workload, identity)
            remember = (reuse, keys) if keys.complete else None
        if earlier is None:
            write_jsonl(rows[: workload.plan.limit], directory.path / DATASET)
            plan = {"max_lanes": max_lanes, "lanes": lane_counts}
            stated = (
                set_aside(*remember, workload.plan, directory.path) if remember else NOTHING_REUSED
            )
            manifest = _manifest(identity, workload, plan, stated)
            directory.write_manifest(manifest | _overlap(workload))
        else:
            stated = earlier.get("reused", NOTHING_REUSED)
        if stated["lanes"]:
            progress("reuse", stated["lanes"], sum(lane_counts))
        done = directory.committed_groups(lane_counts)
        planned = PlannedRun(workload.plan, stated, remember)
        executor = EXECUTORS.get(experiment.execution.executor)(workload)
        seconds = run_groups(planned, executor, done, directory, progress)
        _run_controls(experiment, pair, directory, progress, reuse)
        if checks is not None and not (directory.path / SENDER_CHECKS).exists():
            write_sender_checks(run_sender_checks(checks, max_lanes, progress), directory.path)
        return RunSummary(
            directory=directory.path,
            lanes=sum(lane_counts),
            resumed_lanes=sum(lane_counts[:done]),
            reused_lanes=stated["lanes"],
            seconds=seconds,
        )


def _run_controls(
    experiment: Experiment,
    pair: Pair,
    directory: RunDirectory,
    progress: Progress,
    reuse: LaneStore | None,
) -> None:
    """Run the positive controls that the experiment declares, each inside of its directory."""
    if experiment.positive_control is None:
        return

    def as_stage(name: str) -> Progress:
        # Only the counts of the control's own run: its stages are not the experiment's.
        return lambda stage, *counts: progress(name, *counts) if stage == "run" else None

    run_experiment(
        control_experiment(experiment),
        directory.path / POSITIVE_CONTROL,
        pair=control_pair(pair),
        progress=as_stage("positive_control"),
        reuse=reuse,
    )
    taught = taught_experiment(experiment, str(pair.receiver.device))
    if taught is not None:
        run_experiment(taught, directory.path / TAUGHT_PAIR, progress=as_stage("taught_pair"))


def _overlap(workload: Workload) -> dict[str, Any]:
    """Return which rows are new to the maps of the run; nothing of a run without maps."""
    trained: dict[str, list[TrainingTexts | None]] = {}
    for (name, _), translator in workload.translators.items():
        card = translator.card
        trained.setdefault(name, []).append(None if card is None else card.trained_on)
    rows = workload.plan.rows[: workload.plan.limit]
    return {FIELD: training_overlap(rows, trained)} if trained else {}


def _manifest(
    identity: Mapping[str, Any],
    workload: Workload,
    plan: Mapping[str, Any],
    reused: Mapping[str, Any],
) -> dict[str, Any]:
    cells = []
    for cell in workload.plan.cells:
        rows = sum(workload.plan.included(cell, row) for row in range(workload.plan.limit))
        stated = {
            "name": cell.name,
            "seed": cell.seed,
            "rows": rows,
            "excluded_rows": workload.plan.limit - rows,
            "condition": cell.condition.model_dump(mode="json"),
        }
        if cell.condition.shuffled:
            stated["donors"] = workload.plan.donor_uses(cell)
        cells.append(stated)
    return {
        "format": FORMAT,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        **identity,
        "execution": workload.plan.experiment.execution.model_dump(mode="json"),
        "devices": {
            "sender": str(workload.pair.sender.device),
            "receiver": str(workload.pair.receiver.device),
        },
        "hosts": {
            name: side.host.facts(side.model.repo_id) if side.host.remote else None
            for name, side in (
                ("sender", workload.pair.sender),
                ("receiver", workload.pair.receiver),
            )
        },
        "git_revision": _git_revision(),
        "cells": cells,
        "plan": plan,
        "reused": reused,
    }


def _side(model: TracedModel) -> dict[str, Any]:
    return {
        "model": model.name,
        "revision": model.revision,
        "layer": model.layer,
        "layer_path": model.layer_path,
        "blocks": len(model.block_paths),
        "width": model.width,
        "shape": _shape(model),
        "weights_sha256": weights_sha256(model.module),
    }


def _shape(model: TracedModel) -> dict[str, Any] | None:
    """Return the sizes that a pass's cost depends on; None of a family whose are not known."""
    with suppress(PairError):
        return asdict(shape_from_config(model.module.config.get_text_config().to_dict()))
    return None


_PACKAGES = ("statebridge", "torch", "transformers", "nnsight", "tokenizers", "numpy")


def _device(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def _other_device(pair: Pair) -> str | None:
    """Return what the sender is on; None where that is of the same kind as the receiver's."""
    own = _device(pair.sender.device)
    return None if own == _device(pair.receiver.device) else own


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
