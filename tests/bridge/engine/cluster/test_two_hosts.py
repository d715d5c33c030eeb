"""Two hosts: network namespaces with addresses of their own, and the commands of the Compose file.

Opt-in, and needs root: each host has its network, its /tmp/ray and its /dev/shm.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest
import yaml

from statebridge.demo.experiment import taught_control_fields
from statebridge.engine.run_experiment import run_experiment
from statebridge.experiment import Experiment
from tests.bridge.engine.cluster.network import may_make_networks, networks
from tests.docker.compose_file import with_defaults

pytestmark = pytest.mark.soak

COMPOSE = Path(__file__).parents[4] / "docker" / "cluster" / "compose.yaml"
PAGE = COMPOSE.parents[2] / "docs" / "cluster.md"
STARTS = 5
APART = "unshare --mount --pid --fork --mount-proc --kill-child"


@contextmanager
def host(
    namespace: str, command: list[str], log: Path, environment: dict[str, str]
) -> Iterator[int]:
    """Run a command as a host's first process; give its process id."""
    mounts = 'mount -t tmpfs tmpfs /dev/shm && mount -t tmpfs tmpfs /tmp/ray && exec "$@"'
    Path("/tmp/ray").mkdir(exist_ok=True)
    with log.open("wb") as stream:
        process = subprocess.Popen(
            ["ip", "netns", "exec", namespace, *APART.split(), "sh", "-c", mounts, "sh", *command],
            env=environment,
            stdout=stream,
            stderr=stream,
        )
        try:
            yield process.pid
        finally:
            process.kill()  # the host's other processes end with its first
            process.wait(timeout=60)


def _environment(folder: Path, addresses: list[str]) -> dict[str, str]:
    """Return the variables of a node, as the Compose file sets them; its user has no token."""
    found = yaml.safe_load(COMPOSE.read_text("utf-8"))["services"]["head-cpu"]["environment"]
    found = {name: with_defaults(value) for name, value in found.items()}
    found |= {"RAY_AUTH_TOKEN": "2" * 64, "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(folder)}
    # gRPC asks a proxy for addresses that are not excepted.
    return {**os.environ, **found, "HOME": str(folder), "no_proxy": ",".join(addresses)}


def _commands(head: str) -> list[list[str]]:
    services = yaml.safe_load(COMPOSE.read_text("utf-8"))["services"]
    found = [services[name]["command"] for name in ("head-cpu", "worker-cpu")]
    return [[re.sub(r"\$\{HEAD:-[^}]*\}", head, word) for word in command] for command in found]


def test_a_run_over_two_hosts_has_the_rows_of_one_process(tmp_path: Path) -> None:
    if not may_make_networks():
        pytest.skip("network namespaces need root")
    fields = taught_control_fields(rows=40) | {"name": "hosts", "execution": {"max_lanes": 8}}
    run_experiment(Experiment.model_validate(fields), tmp_path / "one")
    file = tmp_path / "experiment.yaml"
    file.write_text(json.dumps(fields, default=str), encoding="utf-8")
    printed = list[str]()
    with networks(2) as machines, ExitStack() as stack:
        environment = _environment(tmp_path, [machine.address for machine in machines])
        pids = []
        for machine, command in zip(machines, _commands(machines[0].address), strict=True):
            # Ray finds its own address by the route to elsewhere.
            route = ["ip", "-n", machine.name, "route", "add", "default", "dev", "eth0"]
            subprocess.run(route, check=True)
            few = ["--num-cpus=1", "--object-store-memory=80000000"]
            log = tmp_path / f"{machine.address}.log"
            node = partial(host, machine.name, [*command, *few], log, environment)
            pids.append(_started(stack, node, log))
        inside = ["nsenter", "--target", str(_first_of(pids[0])), "--mount", "--net", "--pid"]
        for line in _of_the_page():
            words = re.sub(r"/data/| (?=experiment)", rf" {tmp_path}/", line).split()
            done = subprocess.run(
                [*inside, sys.executable, "-m", *words],
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
                timeout=600,
                check=False,
            )
            assert done.returncode == 0, done.stderr[-3000:] + done.stdout[-1000:]
            printed.append(done.stdout)
    assert "ray: 2 workers, each with 1 CPU, on 2 nodes" in " ".join(printed[0].split())
    found = (tmp_path / "runs" / "first" / "rows.jsonl").read_bytes()
    assert found == (tmp_path / "one" / "rows.jsonl").read_bytes()


def _of_the_page() -> list[str]:
    """Return the page's check of a cluster, and its run."""
    lines = PAGE.read_text("utf-8").splitlines()
    starts = ("$ statebridge doctor ", "$ docker compose ")
    commands = [line for line in lines if line.startswith(starts)]
    inner = [line[line.index("statebridge ") :] for line in commands if "statebridge " in line]
    return [line for line in inner if not line.startswith("statebridge serve")]


def _first_of(pid: int) -> int:
    """Return the process of a host that has its namespaces: the child of `unshare`."""
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(child)


def _started(stack: ExitStack, node: Callable[[], AbstractContextManager[int]], log: Path) -> int:
    """Start a node; again where it ends, as Compose does: Ray gives its own start 30 s."""
    for _ in range(STARTS):
        own = stack.enter_context(ExitStack())
        pid = own.enter_context(node())
        while Path(f"/proc/{pid}/task/{pid}/children").exists():
            text = log.read_text(errors="replace")
            if "Ray runtime started" in text:
                return pid
            if "Error" in text or "Exception" in text:
                break
            time.sleep(0.5)
        own.close()
    raise AssertionError(log.read_text(errors="replace")[-2000:])
