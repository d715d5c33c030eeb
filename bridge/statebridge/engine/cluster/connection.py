"""Connecting to a Ray cluster, and what is refused before an actor is started."""

from __future__ import annotations

import os
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch

from statebridge.engine.cluster.nodes import node_fault, node_name, own_versions
from statebridge.errors import EnvironmentFault, ExperimentError
from statebridge.experiment.declared import is_model_folder
from statebridge.experiment.experiment import Execution, Experiment, ModelAtLayer
from statebridge.models.pair import Pair, pair_devices
from statebridge.models.threads import take_usable_processors

REACH_SECONDS = 5.0
"""Time in which the port of a cluster must answer."""

CHECK_SECONDS = 60.0
"""Time in which each node must answer the check."""


@dataclass(frozen=True, slots=True)
class Needs:
    """Resources of one actor."""

    cpus: int
    gpus: int

    @property
    def resources(self) -> dict[str, int]:
        """The same by Ray's names."""
        return {"CPU": self.cpus} | ({"GPU": self.gpus} if self.gpus else {})

    @property
    def words(self) -> str:
        """The same for a message."""
        return " and ".join(f"{count} {name}" for name, count in self.resources.items())

    def fits(self, node: dict[str, Any]) -> bool:
        """Whether a node of `ray.nodes()` could hold an actor while it is empty."""
        has = node["Resources"]
        return bool(node["Alive"]) and all(has.get(k, 0) >= n for k, n in self.resources.items())

    def room(self, node: dict[str, Any]) -> int:
        """Return the number of actors that an empty node holds."""
        if not self.fits(node):
            return 0
        return min(int(node["Resources"][name] // count) for name, count in self.resources.items())


def needs_of(execution: Execution) -> Needs:
    """Return what an actor takes: its threads, and each GPU that the pair is on.

    Raises:
        EnvironmentFault: This machine lacks a device that was asked for.
    """
    take_usable_processors()  # as loading will: actors get the driver's threads
    gpus = max(len(_numbered(execution)), execution.worker_gpus or 0)
    return Needs(1 if gpus else torch.get_num_threads(), gpus)


def _numbered(execution: Execution) -> dict[str, str]:
    """Return the GPUs that the pair is on, as the driver and as an actor names them.

    An actor sees its own GPUs alone, from `cuda:0`; those of the receiver come first.
    """
    named: list[str] = []
    sides = zip(pair_devices(execution), execution.device_maps, strict=True)
    for device, device_map in reversed(list(sides)):
        if isinstance(device_map, dict):
            named += sorted(place for place in device_map.values() if place.startswith("cuda"))
        elif device_map is None and device.type == "cuda":
            named.append(f"cuda:{device.index or 0}")
    return {gpu: f"cuda:{place}" for place, gpu in enumerate(dict.fromkeys(named))}


def sent_experiment(experiment: Experiment, pair: Pair | None = None) -> Experiment:
    """Return an experiment as an actor reads it.

    Folders of models and adapters are absolute paths, and GPUs are the actor's own.

    Args:
        experiment: As declared.
        pair: Its pair, which may have been loaded from elsewhere than the experiment names.
    """
    execution = experiment.execution
    own = _numbered(execution)
    (sender, receiver), maps = pair_devices(execution), execution.device_maps

    def device(on: torch.device) -> str:
        return own[f"cuda:{on.index or 0}"] if on.type == "cuda" else "cpu"

    def laid(device_map: str | dict[str, str] | None) -> str | dict[str, str] | None:
        if not isinstance(device_map, dict):
            return device_map
        return {path: own.get(place, place) for path, place in device_map.items()}

    devices = {
        "device": "auto" if maps[1] else device(receiver),
        "device_map": laid(maps[1]),
        "sender_device": None if maps[0] else device(sender),
        "sender_device_map": laid(maps[0]),
    }
    sides = {
        "sender": _sent_side(experiment.sender, pair.sender.source if pair else None),
        "receiver": _sent_side(experiment.receiver, pair.receiver.source if pair else None),
    }
    execution = execution.model_copy(update=devices)
    return experiment.model_copy(update=sides | {"execution": execution})


def _sent_side(side: ModelAtLayer, source: ModelAtLayer | None) -> ModelAtLayer:
    where = (source or side).model_dump(include={"model", "revision", "adapter"})
    for what in ("model", "adapter"):
        if where[what] is not None and is_model_folder(where[what]):
            where[what] = str(Path(where[what]).expanduser().resolve())
    return side.model_copy(update=where)


def import_ray() -> Any:
    """Return the module `ray`.

    Raises:
        EnvironmentFault: It is not installed.
    """
    # Ray would report the use of a cluster that is started here to its makers.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # An actor without a GPU is given a device by name; Ray warns that it will leave it alone too.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray  # noqa: PLC0415 - an extra
    except ModuleNotFoundError:
        raise EnvironmentFault(
            "execution.executor ray: Ray is not installed; pip install 'statebridge[ray]', here and"
            " on each node, or use executor in_process"
        ) from None
    return ray


@contextmanager
def connected(address: str | None) -> Iterator[Any]:
    """Connect this process to a cluster, or start one on this machine; give the module `ray`.

    A connection that the process has already is used, and left open.

    Args:
        address: `HOST:PORT` of a cluster of which this machine is a node, or `auto` for the one
            that runs here; None takes the environment's RAY_ADDRESS, and without it starts a
            cluster of this machine alone, which ends with the connection.

    Raises:
        EnvironmentFault: Ray is not installed, or nothing answers at the address.
        ExperimentError: The address is none.
    """
    ray = import_ray()
    if ray.is_initialized():
        yield ray
        return
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    _check_address(address)
    own = {"include_dashboard": False} if address == "local" else {}
    try:
        with _one_try(address), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ray.init(address=address, log_to_driver=False, logging_level="ERROR", **own)
    except Exception as error:  # ConnectionError, RuntimeError, ValueError, by release
        raise EnvironmentFault(
            f"execution.address {address}: {_short(error)}; {_HOW_TO_START.get(address, _JOIN)}"
        ) from None
    # Ray prints notes of actors and nodes that died to standard output, which is the result's.
    ray._private.worker._worker_logs_enabled = False
    try:
        yield ray
    finally:
        ray.shutdown()


@contextmanager
def _one_try(address: str) -> Iterator[None]:
    """Let Ray try once, which takes 45 s, at a port that may be another program's, not 20 times."""
    tries = "RAY_gcs_server_port_wait_time_s"
    if address in ("local", "auto") or tries in os.environ:
        yield
        return
    os.environ[tries] = "1"
    try:
        yield
    finally:
        del os.environ[tries]


_HOW_TO_START = {
    "auto": "start one here with `ray start --head`, or leave the address out",
    "local": "see that this machine has room for Ray's processes, memory and files in /tmp",
}
_JOIN = (
    "give the port of the head itself, not of its dashboard; make this machine a node of that "
    "cluster with `ray start --address=HOST:PORT`, under the cluster's versions of Python and Ray, "
    "or start the run on one of its nodes"
)


def _short(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return shorten(text, 200, placeholder=" ...").rstrip(".")


def _check_address(address: str) -> None:
    if address in ("local", "auto"):
        return
    host, colon, port = address.rpartition(":")
    if "://" in address or not colon or not host or not port.isdecimal() or int(port) > 65535:
        raise ExperimentError(
            f"execution.address {address}: is no address of a Ray cluster; give HOST:PORT of its "
            "head, such as 10.0.0.1:6379, or auto for the cluster of this machine"
        )
    try:
        socket.create_connection((host, int(port)), timeout=REACH_SECONDS).close()
    except OSError as error:
        raise EnvironmentFault(
            f"execution.address {address}: no cluster answers there ({error}); start its head with "
            f"`ray start --head --port={port}`, or leave the address out for a cluster of this "
            "machine alone"
        ) from None


def count_workers(ray: Any, execution: Execution, needs: Needs) -> int:
    """Return the number of actors to start: as declared, or as many as there is room for.

    Raises:
        EnvironmentFault: There is room for fewer, or none.
    """
    room = sum(needs.room(node) for node in ray.nodes())
    each = needs.words
    has = ray.cluster_resources()
    there = f"{has.get('CPU', 0):g} CPUs and {has.get('GPU', 0):g} GPUs"
    if not room:
        raise EnvironmentFault(
            f"execution.executor ray: a worker needs {each} of one node, and no node of the cluster"
            f" ({there}) has them; start with fewer threads (OMP_NUM_THREADS), or add a node"
        )
    if not needs.gpus and has.get("GPU", 0) and execution.device == "auto":
        raise EnvironmentFault(
            "execution.device auto: this machine has no CUDA device and the cluster has "
            f"{has['GPU']:g} GPUs; start the run on a node with a GPU, or set execution.device: cpu"
        )
    if execution.workers == "auto":
        return room
    if execution.workers > room:
        raise EnvironmentFault(
            f"execution.workers {execution.workers}: the cluster ({there}) has room for {room}, "
            f"each with {each}; ask for 1 to {room}, or auto"
        )
    return int(execution.workers)


def check_nodes(ray: Any, experiment: Experiment | None, needs: Needs) -> dict[str, str]:
    """Ask each node that may hold an actor for its versions and the pair; return the versions.

    Args:
        ray: The module, connected.
        experiment: With the folders of its models as absolute paths; None asks for versions alone.
        needs: What an actor takes.

    Raises:
        EnvironmentFault: A node cannot carry out what the driver sends.
    """
    versions = own_versions()
    models = () if experiment is None else (experiment.sender, experiment.receiver)
    nodes = [node for node in ray.nodes() if needs.fits(node)]
    check = ray.remote(node_fault)
    pinned = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
    asked = [
        check.options(
            num_cpus=0,
            max_retries=0,
            scheduling_strategy=pinned(node_id=node["NodeID"], soft=False),
        ).remote(versions, models)
        for node in nodes
    ]
    for node, answer in zip(nodes, asked, strict=True):
        try:
            fault = ray.get(answer, timeout=CHECK_SECONDS)
        except ray.exceptions.GetTimeoutError:
            fault = f"has not answered within {CHECK_SECONDS:g} s; look at its raylet, or remove it"
        except ray.exceptions.RayError as error:
            reason = str(error).strip().splitlines()[-1].strip()
            fault = (
                f"cannot run statebridge ({reason}); install the driver's version there, with the "
                "extra [ray]"
            )
        if fault is not None:
            raise EnvironmentFault(f"node {node_name(node)}: {fault}")
    return versions


def describe_cluster(experiment: Experiment) -> str:
    """Return what a cluster has for an experiment, without starting an actor on it.

    Raises:
        EnvironmentFault: As `held_pool`.
        ExperimentError: The address is none.
    """
    with connected(experiment.execution.address) as ray:
        needs = needs_of(experiment.execution)
        workers = count_workers(ray, experiment.execution, needs)
        check_nodes(ray, sent_experiment(experiment), needs)
        nodes = sum(map(needs.fits, ray.nodes()))
        return f"{workers} workers, each with {needs.words}, on {nodes} nodes"
