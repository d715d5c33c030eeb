"""Running the groups of a plan, and committing each in its turn."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from statebridge.engine.executors.lane_result import LaneRow
from statebridge.engine.executors.plain_path import PlainSweep
from statebridge.engine.executors.shared_path import SharedSweep
from statebridge.engine.planning.groups import Group
from statebridge.engine.planning.workload import Workload
from statebridge.engine.reuse.lane_key import LaneKeys
from statebridge.engine.reuse.lane_reuse import Lanes, plan_batches, planned_lanes, read_reused
from statebridge.runs.directory import REUSED, RunDirectory
from statebridge.runs.reuse import LaneStore

Progress = Callable[[str, int, int], None]
"""Called with a stage, done, total.

Stages are `load`, `capture`, `train`, `quality`, `reuse` (once, where any of the run's lanes come
from earlier runs: how many), `run` and `check`.
"""


class Sweep(Protocol):
    """Runs groups of rows; nobody needs to know where."""

    def run(self, group: Group) -> list[LaneRow]:
        """Return the group's lanes in the order in which they are committed."""


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """A run's plan, which stays the same however often the run is stopped and started.

    Attributes:
        lane_counts: Lanes of each group.
        reused: The lanes that were taken from earlier runs, as the manifest states them.
        remember: Store in which committed lanes are recorded, and their keys.
    """

    workload: Workload
    groups: Sequence[Group]
    lane_counts: Sequence[int]
    max_lanes: int
    reused: Mapping[str, Any]
    remember: tuple[LaneStore, LaneKeys] | None = None


def run_groups(
    planned: PlannedRun, done: int, directory: RunDirectory, progress: Progress
) -> float:
    """Run and commit the groups of a plan after the first `done`; return the seconds it took."""
    workload, groups, max_lanes = planned.workload, planned.groups, planned.max_lanes
    lane_counts = planned.lane_counts
    sweep: Sweep = (
        SharedSweep(workload, max_lanes)
        if workload.experiment.path == "shared"
        else PlainSweep(workload)
    )
    total, finished = sum(lane_counts), sum(lane_counts[:done])
    progress("run", finished, total)
    if done == len(groups):
        # A run that was killed after its last group may have left it.
        (directory.path / REUSED).unlink(missing_ok=True)
        return 0.0
    reused = read_reused(planned.reused, directory.path)
    began, clock = datetime.now(UTC), time.monotonic()
    committed, taken = done, 0
    try:
        for batch in plan_batches(workload, groups, reused, max_lanes):
            if batch.groups[-1].index < done:
                continue
            # Whole, though a part of its groups may be committed: in other company a measured
            # value may differ in its last digits.
            lanes = dict(batch.reused)
            for part in batch.parts:
                lanes |= {(cell.name, row.row_id): row for cell, _, row in sweep.run(part)}
            for group in batch.groups:
                if group.index < done:
                    continue
                names = _commit(planned, group, lanes, directory)
                committed += 1
                taken += sum(name in batch.reused for name in names)
                finished += lane_counts[group.index]
                progress("run", finished, total)
    finally:
        seconds = time.monotonic() - clock
        if committed > done:
            session: dict[str, Any] = {
                "started_at": began.isoformat(timespec="seconds"),
                "seconds": round(seconds, 3),
                "lanes": sum(lane_counts[done:committed]),
            }
            directory.record_session(session | ({"reused_lanes": taken} if taken else {}))
    (directory.path / REUSED).unlink(missing_ok=True)
    return seconds


def _commit(
    planned: PlannedRun,
    group: Group,
    lanes: Lanes,
    directory: RunDirectory,
) -> list[tuple[str, str]]:
    """Commit a group's lanes in the order of the plan; return their cell names and row ids."""
    places = planned_lanes(planned.workload, group)
    names = [(cell.name, planned.workload.rows[row].row_id) for cell, row in places]
    lines = directory.commit(group.index, [(name[0], lanes[name]) for name in names])
    if planned.remember is not None:
        store, keys = planned.remember
        store.record({keys.of(*at): line for at, line in zip(places, lines, strict=True)})
    return names
