"""The driver's processor time for a group and a lane of executor `ray`, with actors that rest.

    OMP_NUM_THREADS=1 python benchmarks/ray_driver.py

Actors of a real cluster of this machine run the first two rows of a run; for all others they
answer at once with the same results under other row ids. The driver's work is that of any run: it
plans, gives groups out, receives their lines and commits them. Prints a line of a table for each
size of groups: processor time of the process (all threads) and of its main thread for a group,
bytes of a lane, and the median time of a group's `fsync`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from statebridge.channels.workload import Workload
from statebridge.demo.experiment import taught_control_fields
from statebridge.engine.cluster.connection import import_ray
from statebridge.engine.executors.executor import EXECUTORS, FinishedGroup
from statebridge.engine.executors.on_ray import GroupTask, OnRay
from statebridge.engine.run_experiment import run_experiment
from statebridge.experiment import Experiment
from statebridge.models.pair import Pair
from statebridge.records import LaneResult
from statebridge.runs.directory import in_group, read_lane
from statebridge.runs.plan import Group


class _Repeated:
    """The task of a run, of which two rows are computed."""

    def __init__(self, task: GroupTask) -> None:
        self.task, self.experiment = task, task.experiment

    def open(self, pair: Pair) -> Callable[[Group], FinishedGroup]:
        run, plan = self.task.open(pair), self.task.plan
        known: dict[str, LaneResult] = {}

        def answer(group: Group) -> FinishedGroup:
            if any(cell.name not in known for cell in group.cells):
                for (cell, _), text in run(replace(group, rows=group.rows[:2])).lanes.items():
                    known[cell] = read_lane(in_group(0, text))[2]
            lanes = [
                (cell.name, replace(known[cell.name], row_id=plan.rows[row].row_id))
                for cell, row in plan.lanes(group)
            ]
            return FinishedGroup.of(group.index, lanes)

        return answer

    def label(self, item: Any) -> str:
        return self.task.label(item)


@EXECUTORS.add("repeated_on_ray")
class RepeatedOnRay(OnRay):
    """Executor `ray`, whose actors repeat themselves."""

    ended = (0.0, 0.0)

    def __init__(self, workload: Workload) -> None:
        super().__init__(workload)
        self._task: Any = _Repeated(self._task)

    def close(self) -> None:
        """Note the times, before the actors end."""
        RepeatedOnRay.ended = time.process_time(), time.thread_time()
        super().close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--max-lanes", type=int, nargs="*", default=[64, 480, 2000])
    parser.add_argument("--lanes", type=int, default=40_000)
    parser.add_argument("--workers", type=int, default=2)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    ray = import_ray()
    ray.init("local", num_cpus=asked.workers, include_dashboard=False, log_to_driver=False)
    print("| lanes a group | groups | driver, ms | main thread, ms | B a lane | fsync, ms |")
    print("|---|---|---|---|---|---|")
    for max_lanes in asked.max_lanes:
        print(_measured(max_lanes, max(asked.lanes, 4 * max_lanes), asked.workers), flush=True)


def _measured(max_lanes: int, lanes: int, workers: int) -> str:
    execution = {"executor": "repeated_on_ray", "workers": workers, "max_lanes": max_lanes}
    fields = taught_control_fields(rows=max(2, lanes // 31)) | {"name": "driver"}
    experiment = Experiment.model_validate(fields | {"execution": {"device": "cpu", **execution}})
    began: list[tuple[float, float]] = []

    def progress(stage: str, done: int, _: int) -> None:
        # From the first group on: the actors have loaded, and the driver has planned.
        if stage == "run" and done and not began:
            began.append((time.process_time(), time.thread_time()))

    with tempfile.TemporaryDirectory() as folder:
        run_experiment(experiment, folder, progress=progress)
        counts = json.loads((Path(folder) / "manifest.json").read_text())["plan"]["lanes"]
        size = (Path(folder) / "rows.jsonl").stat().st_size
        sync = _fsync_seconds(Path(folder) / "synced", size // len(counts))
    times = (b - a for a, b in zip(began[0], RepeatedOnRay.ended, strict=True))
    process, main_thread = (1000 * each / (len(counts) - 1) for each in times)
    return (
        f"| {sum(counts) / len(counts):.0f} | {len(counts)} | {process:.1f} | {main_thread:.1f} | "
        f"{size / sum(counts):.0f} | {1000 * sync:.1f} |"
    )


def _fsync_seconds(path: Path, size: int) -> float:
    seconds = []
    with path.open("ab", buffering=0) as stream:
        for _ in range(40):
            stream.write(bytes(size))
            began = time.monotonic()
            os.fsync(stream.fileno())
            seconds.append(time.monotonic() - began)
    return statistics.median(seconds)


if __name__ == "__main__":
    main()
