"""Faults of actors, nodes, network and driver at random moments: no row is lost or doubled.

Opt-in. `RAY_SOAK_KILLS` is the number of kills, `RAY_SOAK_SEED` the seed of what fails when. As
root, each node but the head is in a network of its own, and its cable is pulled too.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, nullcontext, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from statebridge.demo.experiment import taught_control_fields
from statebridge.engine.run_experiment import run_experiment
from statebridge.experiment import Experiment
from tests.bridge.engine.cluster.network import HEAD, Network, may_make_networks, networks
from tests.bridge.engine.cluster.two_nodes import add_node, ray_cluster

pytestmark = [pytest.mark.soak, pytest.mark.filterwarnings("ignore::ResourceWarning")]

KILLS = int(os.environ.get("RAY_SOAK_KILLS", "40"))
SEED = int(os.environ.get("RAY_SOAK_SEED", "0"))
DEADLINE = 300.0
"""Seconds without a new row after which a run is held to be stuck."""
GIVEN_UP = 8
"""Drivers that may end with exit code 3, the cluster being unfit; the same command goes on."""
PAUSE = 8.0
"""Seconds for which an actor does nothing, and its node answers."""
SHORT, LONG = 3.0, 25.0
"""Seconds without a cable; a node is held to be dead after 15 to 20."""


def _fields() -> dict[str, Any]:
    fields = taught_control_fields(rows=100) | {"name": "soak"}
    return fields | {"execution": {"max_lanes": 8}}


class _Soak:
    """A cluster whose parts fail while runs go on over it."""

    def __init__(self, cluster: Any, folder: Path, machines: list[Network]) -> None:
        self.cluster, self.folder = cluster, folder
        self.random, self.kills, self.others = random.Random(SEED), Counter[str](), Counter[str]()
        self.file = folder / "experiment.json"
        self.file.write_text(json.dumps(_fields(), default=str), encoding="utf-8")
        self.machines = {self._added(each): each for each in machines or (None, None)}
        """Node on each machine: what it is on, where it has a network of its own."""
        self.given_up: list[str] = []
        """Reasons of drivers that ended with exit code 3."""
        self.later: list[tuple[float, Callable[[], Any]]] = []
        """Ends of faults, and when each is due."""

    def run(self, out: Path) -> None:
        """Run the experiment to its end, through faults and starts."""
        while not self._session(out):
            pass

    def _session(self, out: Path) -> bool:
        """Start the driver, let something fail now and then; return whether it came to its end."""
        options = ["--executor", "ray", "--workers", "2", "--address", self.cluster.address]
        command = [sys.executable, "-m", "statebridge", "run", self.file, "--out", out, *options]
        with (self.folder / "driver.log").open("ab") as log:
            driver = subprocess.Popen([*command, "--json"], stdout=log, stderr=log)
        rows = out / "rows.jsonl"
        # Some moments are before the first row, while models load.
        begins = self.random.random() < 0.25
        at = time.monotonic() + self.random.uniform(1, 12) if begins else None
        size, since, moved = 0, rows.stat().st_size if rows.exists() else 0, time.monotonic()
        while driver.poll() is None:
            now, found = time.monotonic(), rows.stat().st_size if rows.exists() else 0
            if found != size:
                size, moved = found, now
            assert now - moved < DEADLINE, f"no new row for {DEADLINE:g} s"
            self._end_faults(now)
            if at is None and size > since:  # rows since the last fault, however busy the machine
                at = now + self.random.uniform(0, 3)
            if at is not None and now > at and self.kills.total() < KILLS:
                since, at = size, None if self._fail(driver) else now + 0.2
            time.sleep(0.02)
        ended = (self.folder / "driver.log").read_text().splitlines()
        if driver.returncode == 3 and len(self.given_up) < GIVEN_UP:
            # An actor that is killed three times while it loads, say; the same command goes on.
            self.given_up.append(ended[-1])
        else:
            assert driver.returncode in (0, -9), ended[-20:]
        return driver.returncode == 0

    def _end_faults(self, now: float) -> None:
        due = [end for at, end in self.later if at <= now]
        self.later = [(at, end) for at, end in self.later if at > now]
        for end in due:
            end()

    def _fail(self, driver: subprocess.Popen[bytes]) -> bool:
        """Let something fail; return whether it was there."""
        kinds = {"actor": 6, "node": 1, "driver": 1, "slow actor": 2}
        if all(self.machines.values()):
            kinds |= {f"{SHORT:g} s without network": 1, f"{LONG:g} s without network": 1}
        (what,) = self.random.choices(list(kinds), list(kinds.values()))
        if what == "driver":
            driver.kill()
        elif "actor" in what:
            actors = self._actors(self.cluster.list_all_nodes())
            if not actors:
                return False
            actor = self.random.choice(actors)
            if what == "actor":
                actor.kill()
            else:
                actor.suspend()
                self._then(PAUSE, actor.resume)
        else:
            # Of a node at work, one fault of the network at a time.
            nodes = [node for node in self.machines if self._actors([node])]
            if not nodes or self.later:
                return False
            node = self.random.choice(nodes)
            if what == "node":
                self._replace(node)
            else:
                self._without_network(node, LONG if what.startswith(f"{LONG:g}") else SHORT)
        (self.kills if what in ("actor", "node", "driver") else self.others)[what] += 1
        return True

    def _then(self, seconds: float, end: Callable[[], Any]) -> None:
        def quietly() -> None:
            with suppress(psutil.Error):  # it has died meanwhile
                end()

        self.later.append((time.monotonic() + seconds, quietly))

    def _without_network(self, node: Any, seconds: float) -> None:
        machine = self.machines[node]
        assert machine is not None
        machine.pull()
        self._then(seconds, machine.plug)
        if seconds == LONG:  # it comes back, is not let in, and is started again
            self._then(seconds + 4, lambda: self._replace(node))

    def _replace(self, node: Any) -> None:
        machine = self.machines.pop(node)
        self.cluster.remove_node(node, allow_graceful=False)
        self.machines[self._added(machine)] = machine

    def _added(self, machine: Network | None) -> Any:
        with machine.inside() if machine else nullcontext():
            return add_node(
                self.cluster, **({"node_ip_address": machine.address} if machine else {})
            )

    def _actors(self, nodes: list[Any]) -> list[psutil.Process]:
        """Processes of actors, below the raylets of this cluster alone."""
        found = []
        for node in nodes:
            for raylet in node.all_processes.get("raylet", ()):
                with suppress(psutil.Error):
                    for child in psutil.Process(raylet.process.pid).children():
                        with suppress(psutil.Error):
                            if "ModelActor" in " ".join(child.cmdline()):
                                found.append(child)
        return found


def test_no_row_is_lost_or_doubled_through_random_faults(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_experiment(Experiment.model_validate(_fields()), tmp_path / "one")
    expected = (tmp_path / "one" / "rows.jsonl").read_bytes()
    lanes = expected.count(b"\n")
    began, runs = time.monotonic(), 0
    with ExitStack() as stack:
        own = may_make_networks()
        machines = stack.enter_context(networks(2)) if own else []
        head = {"node_ip_address": HEAD} if own else {}
        soak = _Soak(stack.enter_context(ray_cluster(1, **head)), tmp_path, machines)
        while soak.kills.total() < KILLS:
            soak.run(tmp_path / f"run{runs}")
            found = (tmp_path / f"run{runs}" / "rows.jsonl").read_bytes()
            assert found.count(b"\n") == lanes
            assert found == expected
            runs += 1
            with capsys.disabled():
                print(
                    f"\n{soak.kills.total()} kills ({dict(soak.kills)}), other faults "
                    f"{dict(soak.others)}, {runs} runs of {lanes} lanes, "
                    f"{time.monotonic() - began:.0f} s, given up: {soak.given_up}",
                    flush=True,
                )
