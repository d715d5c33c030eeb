"""A run on a real Ray cluster of two nodes, one of which dies in the middle of it.

One cluster and one pool serve the whole file: an actor takes seconds to import torch. The tests
run in order; the last one leaves one node.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray

from statebridge.commands import main
from statebridge.demo.experiment import taught_control_fields
from statebridge.engine.cluster import connection
from statebridge.engine.cluster import pool as pools
from statebridge.engine.cluster.connection import check_nodes, needs_of, sent_experiment
from statebridge.engine.cluster.pool import Pool, held_pool
from statebridge.engine.doctor.readiness import check_readiness
from statebridge.engine.run_experiment import run_experiment
from statebridge.errors import EnvironmentFault
from statebridge.experiment import Experiment
from tests.bridge.engine.cluster.two_nodes import ray_cluster

pytestmark = [
    pytest.mark.slow,
    # Of Ray's own sockets and pipes, when its processes end.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


ON_RAY = {"executor": "ray", "workers": 2}
LAST = {
    "source": "translated",
    "prompt": "question_only",
    "positions": "last",
    "source_positions": "last",
}


def _declared(**execution: Any) -> dict[str, Any]:
    """Maps that are trained, maps that are solved for, and a dozen groups that use them."""
    corpus = {"generate": {"rows": 40, "seed": 5}}
    trained = {"corpus": corpus, "training": {"epochs": 1, "warmup_steps": 0}}
    return taught_control_fields(rows=12) | {
        "name": "ray",
        "seeds": [1, 2],
        "translators": {
            "sets": {
                "trained": {"fit": trained},
                "summed": {"fit": {"kind": "ridge", "corpus": corpus}},
            }
        },
        "conditions": [
            "question_only",
            "skyline",
            *({"name": f"of_{name}", "translator": name, **LAST} for name in ("trained", "summed")),
        ],
        "execution": {"max_lanes": 8, **execution},
    }


def _experiment(**execution: Any) -> Experiment:
    return Experiment.model_validate(_declared(**execution))


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The rows of one process, which depend on the maps that it trained."""
    out = tmp_path_factory.mktemp("one")
    run_experiment(_experiment(), out)
    return (out / "rows.jsonl").read_bytes()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with ray_cluster() as found, pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ADDRESS", found.address)
        yield found


@pytest.fixture(scope="module")
def pool(cluster: Any) -> Iterator[Pool]:
    experiment = _experiment(**ON_RAY)
    with held_pool(experiment.execution, experiment) as found:
        yield found


def test_the_doctor_says_what_the_cluster_has(pool: Pool) -> None:
    found = {check.what: check for check in check_readiness(_experiment(**ON_RAY))}
    assert found["executor"].ready
    assert found["executor"].detail == "ray: 2 workers, each with 1 CPU, on 2 nodes"
    found = {c.what: c for c in check_readiness(_experiment(executor="ray", workers=3))}
    assert not found["executor"].ready
    assert "has room for 2" in found["executor"].detail


def test_a_node_with_another_version_is_named(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = _experiment(**ON_RAY)
    monkeypatch.setattr(connection, "own_versions", lambda: {"Python": "3.99.0"})
    with pytest.raises(
        EnvironmentFault, match=r"^node \S+ \(\w{8}\): has Python 3\.1\S+, and the "
    ):
        check_nodes(ray, sent_experiment(experiment), needs_of(experiment.execution))


def test_a_node_without_the_model_is_named(pool: Pool, tmp_path: Path) -> None:
    absent = {"sender": {"model": str(tmp_path / "absent"), "layer": 1}}
    experiment = Experiment.model_validate(_declared(**ON_RAY) | absent)
    with pytest.raises(EnvironmentFault, match=r"^node \S+ \(\w{8}\): has no model at .*absent"):
        check_nodes(ray, sent_experiment(experiment), needs_of(experiment.execution))


@dataclass(frozen=True)
class Hanging:
    """Returns its items; an actor that is given the last of three first does nothing any more."""

    experiment: Experiment
    begun: Path
    how: str

    def open(self, pair: Any) -> Callable[[int], int]:
        def hang_once(item: int) -> int:
            if item == 2 and not self.begun.exists():
                self.begun.write_text(str(os.getpid()))
                if self.how == "stops":
                    os.kill(os.getpid(), signal.SIGSTOP)
                time.sleep(10_000)
            return item

        return hang_once

    def label(self, item: Any) -> str:
        return f"item {item}"


@pytest.mark.parametrize("how", ["sleeps", "stops"])
def test_an_actor_that_hangs_is_ended_at_its_deadline(
    how: str,
    pool: Pool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(pools, "LOOK_SECONDS", 0.5)
    task = Hanging(_experiment(**ON_RAY, group_seconds=2.0), tmp_path / "begun", how)
    assert sorted(pool.work(task, range(3))) == [0, 1, 2]
    assert "did not end in 2 s" in caplog.text
    hung = int(task.begun.read_text())
    until = time.monotonic() + 60
    while psutil.pid_exists(hung) and time.monotonic() < until:
        time.sleep(0.1)
    assert not psutil.pid_exists(hung)


def test_the_page_s_command_loses_no_row_when_a_node_dies(
    cluster: Any,
    pool: Pool,
    expected: bytes,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    page = (Path(__file__).parents[4] / "docs" / "ray.md").read_text(encoding="utf-8")
    (line,) = [line for line in page.splitlines() if line.startswith("statebridge ")]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "experiments").mkdir()
    file = tmp_path / "experiments" / "taught-pair.yaml"
    file.write_text(json.dumps(_declared(), default=str), encoding="utf-8")
    nodes = cluster.list_all_nodes()

    def progress(stage: str, done: int, total: int) -> None:
        if stage == "run" and len(nodes) > 1 and done >= total // 3:
            cluster.remove_node(nodes.pop())

    monkeypatch.setattr("statebridge.commands.run.show_progress", lambda **_: nullcontext(progress))
    monkeypatch.setattr("sys.argv", [*line.split(), "--json"])
    main()
    assert (tmp_path / "runs" / "ray" / "rows.jsonl").read_bytes() == expected
    assert (pool.size, len(nodes)) == (2, 1)
    assert "unfinished go to others" in caplog.text
    # Nothing of Ray's on standard output, and nothing of the actors'.
    ray._private.worker.print_to_stdstream(
        {"lines": ["a node died"], "pid": "raylet", "is_err": False}, ignore_prefix=False
    )
    assert json.loads(capfd.readouterr().out)["lanes"] == expected.count(b"\n")
