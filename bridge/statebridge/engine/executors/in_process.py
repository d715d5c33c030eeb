"""The executor of this process: it owns the models and runs one group after the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from statebridge.channels.workload import Workload
from statebridge.engine.executors.executor import EXECUTORS, FinishedGroup
from statebridge.engine.executors.plain_path import PlainPath
from statebridge.engine.executors.shared_path import SharedPath
from statebridge.runs.plan import Group


@EXECUTORS.add("in_process")
class InProcess:
    """Runs groups in order on the pair that this process holds.

    An experiment that runs remotely (NDIF) is also carried out from here, by traces.
    """

    def __init__(self, workload: Workload) -> None:
        self._path = open_path(workload)

    def run(self, groups: Iterable[Group]) -> Iterator[FinishedGroup]:
        """Yield each group's results in turn."""
        for group in groups:
            lanes = self._path.run(group)
            yield FinishedGroup.of(group.index, ((cell.name, lane) for cell, _, lane in lanes))

    def close(self) -> None:
        """Nothing is held beyond the pair, which is the caller's."""


def open_path(workload: Workload) -> SharedPath | PlainPath:
    """Return the path that the experiment runs on: `shared` or `plain`."""
    return (
        SharedPath(workload) if workload.plan.experiment.path == "shared" else PlainPath(workload)
    )
