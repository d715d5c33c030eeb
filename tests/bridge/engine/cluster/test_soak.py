"""Kills of actors, raylets and the driver at random moments: no row is lost, none is there twice.

Opt-in. `RAY_SOAK_KILLS` is the number of kills, `RAY_SOAK_SEED` the seed of what is killed when.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest

from statebridge.demo.experiment import taught_control_fields
from statebridge.engine.run_experiment import run_experiment
from statebridge.experiment import Experiment
from tests.bridge.engine.cluster.two_nodes import add_node, ray_cluster

pytestmark = [pytest.mark.soak, pytest.mark.filterwarnings("ignore::ResourceWarning")]

KILLS = int(os.environ.get("RAY_SOAK_KILLS", "40"))
SEED = int(os.environ.get("RAY_SOAK_SEED", "0"))
DEADLINE = 180.0
"""Seconds without a new row after which a run is held to be stuck."""


def _fields() -> dict[str, Any]:
    fields = taught_control_fields(rows=100) | {"name": "soak"}
    return fields | {"execution": {"max_lanes": 8}}


class _Soak:
    """A cluster whose parts are killed while runs go on over it."""

    def __init__(self, cluster: Any, folder: Path) -> None:
        self.cluster, self.folder = cluster, folder
        self.random, self.kills = random.Random(SEED), Counter[str]()
        self.file = folder / "experiment.json"
        self.file.write_text(json.dumps(_fields(), default=str), encoding="utf-8")

    def run(self, out: Path) -> None:
        """Run the experiment to its end, through kills and starts."""
        while not self._session(out):
            pass

    def _session(self, out: Path) -> bool:
        """Start the driver, kill something now and then; return whether it came to its end."""
        options = ["--executor", "ray", "--workers", "2", "--address", self.cluster.address]
        command = [sys.executable, "-m", "statebridge", "run", self.file, "--out", out, *options]
        with (self.folder / "driver.log").open("ab") as log:
            driver = subprocess.Popen([*command, "--json"], stdout=log, stderr=log)
        rows = out / "rows.jsonl"
        # Some moments are before the first row, while models load.
        begins = self.random.random() < 0.25
        at = time.monotonic() + self.random.uniform(1, 12) if begins else None
        size, moved = 0, time.monotonic()
        while driver.poll() is None:
            now, found = time.monotonic(), rows.stat().st_size if rows.exists() else 0
            if found != size:
                size, moved = found, now
            assert now - moved < DEADLINE, f"no new row for {DEADLINE:g} s"
            if at is None and size:
                at = now + self.random.uniform(0, 3)
            if at is not None and now > at and self.kills.total() < KILLS:
                killed = self._kill(driver)
                at = now + (self.random.uniform(1, 8) if killed else 0.2)
            time.sleep(0.02)
        assert driver.returncode in (0, -9), (self.folder / "driver.log").read_text()[-2000:]
        return driver.returncode == 0

    def _kill(self, driver: subprocess.Popen[bytes]) -> bool:
        """Kill something; return whether it was there."""
        what = self.random.choice(["actor", "actor", "actor", "raylet", "driver"])
        if what == "driver":
            driver.kill()
        elif what == "raylet":
            self.cluster.remove_node(self.cluster.list_all_nodes()[-1], allow_graceful=False)
            add_node(self.cluster)
        else:
            actors = self._actors()
            if not actors:
                return False
            self.random.choice(actors).kill()
        self.kills[what] += 1
        return True

    def _actors(self) -> list[psutil.Process]:
        """Processes of actors, below the raylets of this cluster alone."""
        found = []
        for node in self.cluster.list_all_nodes():
            for raylet in node.all_processes.get("raylet", ()):
                for child in psutil.Process(raylet.process.pid).children():
                    try:
                        if "ModelActor" in " ".join(child.cmdline()):
                            found.append(child)
                    except psutil.Error:
                        continue
        return found


def test_no_row_is_lost_or_doubled_through_random_kills(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_experiment(Experiment.model_validate(_fields()), tmp_path / "one")
    expected = (tmp_path / "one" / "rows.jsonl").read_bytes()
    lanes = expected.count(b"\n")
    began, runs = time.monotonic(), 0
    with ray_cluster(3) as cluster:
        soak = _Soak(cluster, tmp_path)
        while soak.kills.total() < KILLS:
            soak.run(tmp_path / f"run{runs}")
            found = (tmp_path / f"run{runs}" / "rows.jsonl").read_bytes()
            assert found.count(b"\n") == lanes
            assert found == expected
            runs += 1
    with capsys.disabled():
        print(
            f"\n{soak.kills.total()} kills ({dict(soak.kills)}), {runs} runs of "
            f"{lanes} lanes, {time.monotonic() - began:.0f} s"
        )
