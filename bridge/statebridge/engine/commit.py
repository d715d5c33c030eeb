"""Committing: finished groups arrive in any order and are committed in the order of the plan."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from statebridge.engine.executors.executor import Executor, FinishedGroup
from statebridge.engine.reuse.lane_key import LaneKeys
from statebridge.engine.reuse.lane_reuse import Batch, plan_batches, read_reused
from statebridge.errors import ExperimentError
from statebridge.experiment.cells import Cell
from statebridge.runs.directory import REUSED, RunDirectory, in_group
from statebridge.runs.plan import Group, Plan
from statebridge.runs.stores import LaneStore

AT_ONCE = 64
"""Groups that are committed together at most, where as many wait for their turn: one sync."""

Progress = Callable[[str, int, int], None]
"""Called with a stage, done, total.

Stages are `load`, `capture`, `train`, `quality`, `reuse` (once, where any of the run's lanes come
from earlier runs: how many), `run` and `check`.
"""


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """A run's plan, which stays the same however often the run is stopped and started.

    Attributes:
        reused: The lanes that were taken from earlier runs, as the manifest states them.
        remember: Store in which committed lanes are recorded, and their keys.
    """

    plan: Plan
    reused: Mapping[str, Any]
    remember: tuple[LaneStore, LaneKeys] | None = None


def run_groups(
    planned: PlannedRun,
    executor: Executor,
    done: int,
    directory: RunDirectory,
    progress: Progress,
) -> float:
    """Run and commit the groups of a plan after the first `done`; return the seconds it took.

    The executor is closed at the end.
    """
    began, clock = datetime.now(UTC), time.monotonic()
    commits = _OrderedCommits(planned, done, directory, progress)
    try:
        with closing(executor):
            if done < len(planned.plan.groups):
                for finished in executor.run(commits.parts()):
                    commits.take(finished)
                commits.check_complete()
    finally:
        seconds = time.monotonic() - clock
        if commits.committed > done:
            session: dict[str, Any] = {
                "started_at": began.isoformat(timespec="seconds"),
                "seconds": round(seconds, 3),
                "lanes": sum(planned.plan.lane_counts[done : commits.committed]),
            }
            reused = {"reused_lanes": commits.reused_lanes} if commits.reused_lanes else {}
            directory.record_session(session | reused)
    # A run that was killed after its last group may have left it.
    (directory.path / REUSED).unlink(missing_ok=True)
    return seconds if commits.committed > done else 0.0


@dataclass(slots=True)
class _Waiting:
    """A batch of groups, until all of its parts have arrived and all before it are committed."""

    batch: Batch
    missing: set[int]
    """Indices of the parts that have not arrived."""
    lanes: dict[tuple[str, str], bytes]


class _OrderedCommits:
    """Gives out the parts to compute, and commits groups in the order of the plan."""

    def __init__(
        self, planned: PlannedRun, done: int, directory: RunDirectory, progress: Progress
    ) -> None:
        self._planned, self._done, self._directory = planned, done, directory
        self._progress = progress
        self._executor = planned.plan.experiment.execution.executor
        self._lane_counts = planned.plan.lane_counts
        self._lanes, self._committed_lanes = sum(self._lane_counts), sum(self._lane_counts[:done])
        self._waiting: deque[_Waiting] = deque()
        self._by_part: dict[int, _Waiting] = {}
        self.committed, self.reused_lanes = done, 0
        self._report()

    def parts(self) -> Iterator[Group]:
        """Yield what is to be computed, each part with an index of its own."""
        index = 0
        reused = read_reused(self._planned.reused, self._directory.path)
        for batch in plan_batches(self._planned.plan, reused):
            if batch.groups[-1].index < self._done:
                continue
            # Whole, though a part of its groups may be committed: in other company a measured
            # value may differ in its last digits.
            parts = [replace(part, index=index + i) for i, part in enumerate(batch.parts)]
            index += len(parts)
            entry = _Waiting(batch, {part.index for part in parts}, dict(batch.reused))
            self._waiting.append(entry)
            self._by_part.update((part.index, entry) for part in parts)
            self._commit_complete()
            yield from parts

    def take(self, finished: FinishedGroup) -> None:
        """Take a part's results, and commit what is complete."""
        entry = self._by_part.pop(finished.index, None)
        if entry is None:
            raise ExperimentError(
                f"execution.executor {self._executor}: yielded group {finished.index}, which it was"
                " not given or has yielded before; yield each group once, with its own index"
            )
        entry.missing.discard(finished.index)
        entry.lanes.update(finished.lanes)
        self._commit_complete()

    def check_complete(self) -> None:
        """Refuse an executor that ended before all groups were there.

        Raises:
            ExperimentError: States how many groups are committed.
        """
        groups = len(self._planned.plan.groups)
        if self.committed < groups:
            raise ExperimentError(
                f"execution.executor {self._executor}: ended after {self.committed} of {groups} "
                "groups; run() must yield a FinishedGroup for each"
            )

    def _commit_complete(self) -> None:
        while self._waiting and not self._waiting[0].missing:
            lanes: list[tuple[Cell, int]] = []
            lines: list[bytes] = []
            counts: list[int] = []
            try:
                while len(counts) < AT_ONCE and self._waiting and not self._waiting[0].missing:
                    entry = self._waiting.popleft()
                    for group in entry.batch.groups:
                        if group.index >= self._done:
                            own = list(self._planned.plan.lanes(group))
                            lines += self._lines(group, own, entry)
                            lanes += own
                            counts.append(len(own))
            finally:  # where a later group lacks a lane, those before it stay
                if counts:
                    self._commit(counts, lanes, lines)

    def _lines(
        self, group: Group, lanes: Sequence[tuple[Cell, int]], entry: _Waiting
    ) -> list[bytes]:
        rows = self._planned.plan.rows
        names = [(cell.name, rows[row].row_id) for cell, row in lanes]
        try:
            lines = [in_group(group.index, entry.lanes[name]) for name in names]
        except KeyError as missing:
            cell, row_id = missing.args[0]
            raise ExperimentError(
                f"channel {group.channel}: returned no lane of cell {cell} for row {row_id}; "
                "carry() must return every lane that the plan includes"
            ) from None
        self.reused_lanes += sum(name in entry.batch.reused for name in names)
        return lines

    def _commit(
        self, counts: Sequence[int], lanes: Sequence[tuple[Cell, int]], lines: Sequence[bytes]
    ) -> None:
        """Commit groups of so many lanes each."""
        self._directory.commit(lines)
        if self._planned.remember is not None:
            store, keys = self._planned.remember
            store.record({keys.of(*lane): line for lane, line in zip(lanes, lines, strict=True)})
        self.committed += len(counts)
        for count in counts:
            self._committed_lanes += count
            self._report()

    def _report(self) -> None:
        self._progress("run", self._committed_lanes, self._lanes)
