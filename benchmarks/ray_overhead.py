"""Time of one experiment in one process, and on 1, 2 and 4 actors of one thread each.

    OMP_NUM_THREADS=1 python benchmarks/ray_overhead.py

The taught pair's private set. Actors load beforehand, and the driver's loading is not timed. Prints
a table: seconds of the groups (the least of the rounds), the driver's own processor time for a
group, its share of a group's in one process, and the speed beside one process.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from statebridge.demo.experiment import taught_control_fields
from statebridge.engine.cluster.connection import import_ray
from statebridge.engine.cluster.pool import held_pool
from statebridge.engine.run_experiment import run_experiment
from statebridge.experiment import Experiment


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--max-lanes", type=int, default=64)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2, 4])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    # Room for all of them, on however few processors.
    import_ray().init(
        "local", num_cpus=max(asked.workers), include_dashboard=False, log_to_driver=False
    )
    fields = taught_control_fields(rows=asked.rows) | {"name": "overhead"}

    def experiment(**execution: Any) -> Experiment:
        return Experiment.model_validate(
            fields | {"execution": {"max_lanes": asked.max_lanes, "device": "cpu", **execution}}
        )

    runs = {"in_process": experiment()}
    for count in asked.workers:
        runs[f"{count} actors"] = experiment(executor="ray", workers=count)
    found = {name: _measured(declared, asked.rounds) for name, declared in runs.items()}
    base = found["in_process"]
    each = base[2] / base[0]
    print("| executor | groups | s | driver's CPU, ms a group | its share | speed-up |")
    print("|---|---|---|---|---|---|")
    for name, (groups, seconds, cpu) in found.items():
        print(
            f"| {name} | {groups} | {seconds:.2f} | {1000 * cpu / groups:.1f} | "
            f"{cpu / groups / each:.1%} | {base[1] / seconds:.2f} |"
        )
    if asked.json:
        asked.json.write_text(json.dumps(found))


def _measured(experiment: Experiment, rounds: int) -> tuple[int, float, float]:
    """Return groups, the least seconds that they took, and the driver's least CPU seconds."""
    if experiment.execution.executor == "ray":
        with held_pool(experiment.execution, experiment):
            _once(experiment)  # actors load at their first task
            times = [_once(experiment) for _ in range(rounds)]
    else:
        times = [_once(experiment) for _ in range(rounds)]
    return times[0][0], min(each[1] for each in times), min(each[2] for each in times)


def _once(experiment: Experiment) -> tuple[int, float, float]:
    began: list[float] = []

    def progress(stage: str, *_: int) -> None:
        if stage == "run" and not began:
            began.append(time.process_time())

    with tempfile.TemporaryDirectory() as folder:
        summary = run_experiment(experiment, folder, progress=progress)
        manifest = json.loads((Path(folder) / "manifest.json").read_text())
    cpu = time.process_time() - began[0]
    return len(manifest["plan"]["lanes"]), summary.seconds, cpu


if __name__ == "__main__":
    main()
