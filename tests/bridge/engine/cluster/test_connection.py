"""Clusters that cannot be used are refused before an actor is started, in one line."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from statebridge.engine.cluster.connection import (
    Needs,
    connected,
    count_workers,
    needs_of,
    sent_experiment,
)
from statebridge.engine.cluster.nodes import node_fault, own_versions
from statebridge.engine.run_experiment import run_experiment
from statebridge.errors import EnvironmentFault, StatebridgeError
from statebridge.experiment import Experiment
from statebridge.experiment.experiment import Execution, ModelAtLayer
from tests.bridge.engine.cluster.fake_ray import FakeRay

TRIES = "RAY_gcs_server_port_wait_time_s"


def _experiment(**execution: Any) -> Experiment:
    return Experiment.model_validate(
        {
            "name": "ray",
            "sender": {"model": "./no/sender", "layer": 1},
            "receiver": {"model": "no/receiver", "layer": 1, "adapter": "./no/adapter"},
            "dataset": {"generate": {"rows": 2}},
            "conditions": ["no_inject"],
            "execution": {"executor": "ray", "device": "cpu", **execution},
        }
    )


def _node(cpus: float, gpus: float = 0, *, alive: bool = True) -> dict[str, Any]:
    return {"Alive": alive, "Resources": {"CPU": cpus} | ({"GPU": gpus} if gpus else {})}


def _cluster(*nodes: dict[str, Any]) -> FakeRay:
    ray = FakeRay()
    ray.there = list(nodes)
    return ray


def test_a_run_without_ray_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(EnvironmentFault, match=r"Ray is not installed; pip install .*\[ray\]"):
        run_experiment(_experiment(), tmp_path)
    assert not list(tmp_path.glob("*.jsonl"))


@pytest.mark.parametrize(
    "address", ["nowhere", "ray://10.0.0.1:10001", ":6379", "host:", "host:99999"]
)
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(StatebridgeError, match=f"address {address}: is no address of a Ray clu"):
        connected(address).__enter__()


def test_an_address_where_nothing_answers_is_refused() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # not listened to
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(EnvironmentFault, match=f"address {address}: no cluster answers there"):
            connected(address).__enter__()


@pytest.mark.parametrize(
    ("address", "error", "words"),
    [
        (
            "auto",
            ConnectionError("Could not find any\nrunning Ray instance."),
            "`ray start --head`",
        ),
        ("local", RuntimeError("Failed to start\nthe raylet."), "room for Ray's processes, memory"),
        (
            "HERE",
            RuntimeError("Version mismatch: Ray: 2.50.0\n  Python: 3.12.1"),
            "the cluster's ver",
        ),
        (
            "HERE",
            ConnectionError("the node of 10.0.0.9 is none of it"),
            "`ray start --address=HOST:",
        ),
    ],
)
def test_what_ray_refuses_is_said_in_one_line(
    address: str, error: Exception, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def init(**_: Any) -> None:
        # Ray would try 20 times at a port of another program.
        assert os.environ.get(TRIES) == ("1" if ":" in address else None)
        raise error

    ray = SimpleNamespace(is_initialized=lambda: False, init=init)
    monkeypatch.setattr("statebridge.engine.cluster.connection.import_ray", lambda: ray)
    with socket.create_server(("127.0.0.1", 0)) as head:
        address = address.replace("HERE", f"127.0.0.1:{head.getsockname()[1]}")
        with pytest.raises(EnvironmentFault) as caught:
            connected(address).__enter__()
    message = str(caught.value)
    assert message.startswith(f"execution.address {address}: {' '.join(str(error).split())[:20]}")
    assert words in message
    assert "\n" not in message
    assert TRIES not in os.environ


@pytest.mark.parametrize(
    ("nodes", "needs", "execution", "words"),
    [
        ([_node(4)], Needs(1, 0), {"workers": 5}, "has room for 4, each with 1 CPU; ask for 1 to"),
        ([_node(4), _node(3)], Needs(2, 0), {"workers": 4}, "room for 3, each with 2 CPU"),
        ([_node(9, 1), _node(9)], Needs(1, 1), {"workers": 2}, "for 1, each with 1 CPU and 1 GPU"),
        ([_node(9, 1), _node(9, 1)], Needs(1, 2), {}, "needs 1 CPU and 2 GPU of one node, and no"),
        ([_node(4, alive=False)], Needs(1, 0), {}, "needs 1 CPU of one node, and no node"),
        ([_node(2)], Needs(8, 0), {}, "start with fewer threads (OMP_NUM_THREADS)"),
        (
            [_node(9, 4)],
            Needs(1, 0),
            {"device": "auto"},
            "no CUDA device and the cluster has 4 GPU",
        ),
    ],
)
def test_more_workers_than_there_is_room_for_are_refused(
    nodes: list[dict[str, Any]], needs: Needs, execution: dict[str, Any], words: str
) -> None:
    declared = Execution(executor="ray", **({"device": "cpu"} | execution))
    with pytest.raises(EnvironmentFault) as caught:
        count_workers(_cluster(*nodes), declared, needs)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_auto_is_as_many_workers_as_each_node_has_room_for() -> None:
    ray = _cluster(_node(5), _node(3), _node(1))
    assert count_workers(ray, Execution(executor="ray", device="cpu"), Needs(2, 0)) == 3


def test_an_actor_takes_a_cpu_for_each_thread() -> None:
    assert needs_of(Execution(device="cpu")) == Needs(torch.get_num_threads(), 0)


def test_an_actor_sees_folders_as_absolute_paths() -> None:
    sent = sent_experiment(_experiment())
    assert sent.sender.model == str(Path("no/sender").resolve())
    assert sent.receiver.model == "no/receiver"
    assert sent.receiver.adapter == str(Path("no/adapter").resolve())
    assert sent.execution.device == "cpu"


def test_a_node_says_which_version_differs() -> None:
    own = own_versions()
    assert node_fault(own, ()) is None
    for name in ("Python", "torch", "transformers", "statebridge", "source of statebridge"):
        fault = node_fault(own | {name: "0.0"}, ())
        assert fault is not None
        assert fault.startswith(f"has {name} {own[name]}, and the driver has 0.0")


def test_a_node_without_the_model_says_where_it_looked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = ModelAtLayer(model=str(tmp_path), layer=1)
    assert str(tmp_path) in str(node_fault({}, (folder,)))
    (tmp_path / "config.json").touch()
    assert node_fault({}, (folder,)) is None
    on_hub = ModelAtLayer(model="no/receiver", layer=1)
    assert "no model no/receiver in its cache" in str(node_fault({}, (folder, on_hub)))
