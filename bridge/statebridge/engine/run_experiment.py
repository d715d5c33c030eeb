"""Carrying an experiment out: load, check, plan, run group by group, commit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from statebridge.channels.workload import Workload
from statebridge.data import write_jsonl
from statebridge.engine.cautions import check_scoring, run_cautions
from statebridge.engine.commit import PlannedRun, Progress, run_groups
from statebridge.engine.executors.executor import EXECUTORS, check_names, held
from statebridge.engine.fitting.run_translators import run_translators
from statebridge.engine.manifest import identity_of, manifest_of
from statebridge.engine.planning.groups import choose_max_lanes, grouped
from statebridge.engine.planning.positive_control import (
    control_experiment,
    control_pair,
    taught_experiment,
)
from statebridge.engine.planning.prepare import prepare, stand_ins, with_translators
from statebridge.engine.probe import on_a_path_that_fits
from statebridge.engine.reuse.extension import finish_extension, set_own_aside
from statebridge.engine.reuse.lane_key import LaneKeys
from statebridge.engine.reuse.lane_reuse import NOTHING_REUSED, set_aside
from statebridge.engine.row_check import check_row_independence
from statebridge.engine.sender_checks.checks import run_sender_checks
from statebridge.engine.sender_checks.plan import plan_sender_checks
from statebridge.errors import ExperimentError
from statebridge.experiment.experiment import Experiment
from statebridge.models.pair import Pair, declared_pair
from statebridge.results.sender_checks import write_sender_checks
from statebridge.runs.directory import (
    DATASET,
    MANIFEST,
    POSITIVE_CONTROL,
    SENDER_CHECKS,
    TAUGHT_PAIR,
    RunDirectory,
    open_run,
)
from statebridge.runs.plan import Plan
from statebridge.runs.same_run import as_started, check_growth, check_same, grows
from statebridge.runs.stores import FitStore, LaneStore
from statebridge.tasks.declared_rows import at_commit, resolve_dataset


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
    cautions: tuple[str, ...]
    """Limits of the results that were known before a row was run."""


def run_experiment(
    experiment: Experiment,
    out: str | Path,
    *,
    pair: Pair | None = None,
    progress: Progress = lambda *_: None,
    show_caution: Callable[[str], None] = lambda _: None,
    reuse: LaneStore | None = None,
    fits: FitStore | None = None,
) -> RunSummary:
    """Carry an experiment out into a run directory; go on where an earlier call stopped.

    Args:
        experiment: As declared.
        out: The run directory; made if needed.
        pair: A pair that is loaded already, at any layers; loaded from the experiment if not given.
        progress: Called as work goes on.
        show_caution: Called with each caution of the run, before a row is run.
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
    with open_run(out) as directory, held(experiment) as actors:
        earlier = directory.read_manifest()
        experiment = as_started(experiment, earlier and earlier["experiment"])
        experiment = experiment.model_copy(update={"dataset": at_commit(experiment.dataset)})
        experiment = _with_hashed_files(experiment)
        rows, dataset_sha256 = resolve_dataset(experiment.dataset)
        check_scoring(rows[: experiment.limit])
        pair = declared_pair(experiment, pair, progress)
        experiment, path_cautions = on_a_path_that_fits(experiment, pair)
        # What can be refused is refused before translators are fitted.
        workload = prepare(experiment, pair, rows, stand_ins(experiment, pair))
        checks = plan_sender_checks(workload) if experiment.sender_checks else None
        identity = identity_of(workload, dataset_sha256)
        if earlier is not None:
            file = directory.path / MANIFEST
            check_same(identity, earlier, file, may_grow=True)
            if grows(identity, earlier):
                asked = {c.name: c.condition.model_dump(mode="json") for c in workload.plan.cells}
                check_growth(identity, earlier, asked, workload.plan.limit, file)
        cautions = (*path_cautions, *run_cautions(workload))
        for caution in cautions:
            show_caution(caution)
        translators, identity["translators"] = run_translators(
            experiment,
            pair,
            rows,
            directory,
            progress,
            fits if experiment.execution.reuse else None,
            actors,
        )
        workload = with_translators(workload, translators)
        check_row_independence(workload)
        started = _Started(identity, cautions, directory, reuse)
        workload, stated, remember = started.planned(workload, earlier)
        lane_counts = workload.plan.lane_counts
        if stated["lanes"]:
            progress("reuse", stated["lanes"], sum(lane_counts))
        done = directory.committed_groups(lane_counts)
        planned = PlannedRun(workload.plan, stated, remember)
        executor = EXECUTORS.get(experiment.execution.executor)(workload)
        seconds = run_groups(planned, executor, done, directory, progress)
        _run_controls(experiment, pair, directory, progress, reuse)
        if checks is not None and not (directory.path / SENDER_CHECKS).exists():
            checks = replace(checks, workload=workload)
            made = run_sender_checks(checks, workload.plan.max_lanes, progress, actors)
            write_sender_checks(made, directory.path)
        own = stated["lanes"] if "replaces" in stated else 0
        return RunSummary(
            directory=directory.path,
            lanes=sum(lane_counts),
            resumed_lanes=max(own, sum(lane_counts[:done])),
            reused_lanes=stated["lanes"] - own,
            seconds=seconds,
            cautions=cautions,
        )


@dataclass(frozen=True, slots=True)
class _Started:
    """How a run is started, or goes on, in its directory."""

    identity: Mapping[str, Any]
    cautions: Sequence[str]
    directory: RunDirectory
    reuse: LaneStore | None

    def planned(
        self, workload: Workload, earlier: Mapping[str, Any] | None
    ) -> tuple[Workload, Mapping[str, Any], tuple[LaneStore, LaneKeys] | None]:
        """Return the workload in groups, the lanes that are set aside, and the store in use.

        Raises:
            OtherRunError: The directory holds a run of which this is neither the same nor more.
        """
        declared = workload.plan.experiment.execution.max_lanes
        if earlier is None:
            max_lanes = choose_max_lanes(workload)
        else:
            # The groups that are committed stay; what is left runs in smaller parts if need be.
            max_lanes = int(earlier["plan"]["max_lanes"])
        plan = grouped(workload.plan, max_lanes)
        remember = self._remember(replace(workload, plan=plan))
        stated: Mapping[str, Any]
        if earlier is None:
            stated = set_aside(*remember, plan, self._path) if remember else NOTHING_REUSED
            write_jsonl(plan.rows[: plan.limit], self._path / DATASET)
            self._write(workload, plan, stated)
        else:
            stated = self._gone_on(workload, plan, earlier)
        if declared is not None and declared < max_lanes:
            plan = replace(plan, max_lanes=declared)
        return replace(workload, plan=plan), stated, remember

    def _gone_on(
        self, workload: Workload, plan: Plan, earlier: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        file = self._path / MANIFEST
        check_same(self.identity, earlier, file, may_grow=True)  # with the translators
        stated: Mapping[str, Any] = earlier.get("reused", NOTHING_REUSED)
        finish_extension(stated, self._path)
        if not grows(self.identity, earlier):
            return stated
        done = self.directory.committed_groups(earlier["plan"]["lanes"])
        same_plan = earlier["plan"]["lanes"] == plan.lane_counts and [
            cell["name"] for cell in earlier["cells"]
        ] == [cell.name for cell in plan.cells]
        if not same_plan:
            stated = (
                set_own_aside(plan, earlier, self._path, done) if done else dict(NOTHING_REUSED)
            )
        write_jsonl(plan.rows[: plan.limit], self._path / DATASET)
        self._write(workload, plan, stated)
        finish_extension(stated, self._path)
        return stated

    def _remember(self, workload: Workload) -> tuple[LaneStore, LaneKeys] | None:
        if self.reuse is None or not workload.plan.experiment.execution.reuse:
            return None
        keys = LaneKeys(workload, self.identity)
        return (self.reuse, keys) if keys.complete else None

    def _write(self, workload: Workload, plan: Plan, stated: Mapping[str, Any]) -> None:
        counts = {"max_lanes": plan.max_lanes, "lanes": plan.lane_counts}
        grown = replace(workload, plan=plan)
        manifest = manifest_of(self.identity, grown, counts, stated, self.cautions)
        self.directory.write_manifest(manifest)

    @property
    def _path(self) -> Path:
        return self.directory.path


def _with_hashed_files(experiment: Experiment) -> Experiment:
    """Return an experiment whose conditions state the hashes of the files that they write."""
    if isinstance(experiment.conditions, str):
        return experiment
    conditions = [
        condition
        if isinstance(condition, str) or condition.state_file is None
        else condition.model_copy(update={"state_file": condition.state_file.hashed()})
        for condition in experiment.conditions
    ]
    found = experiment.model_copy(update={"conditions": conditions})
    vars(found).pop("resolved_conditions", None)  # a copy takes this cache with it
    return found


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
