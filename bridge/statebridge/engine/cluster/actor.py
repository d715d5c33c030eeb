"""The actor: a process on a node that owns models and carries out what it is given."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from statebridge.engine.cluster.nodes import node_fault
from statebridge.errors import EnvironmentFault, StatebridgeError
from statebridge.experiment.experiment import Experiment, ModelAtLayer
from statebridge.models.loading import load_model
from statebridge.models.pair import Pair, declared_pair, pair_devices
from statebridge.models.traced_model import TracedModel
from statebridge.plugins import load_plugin_texts


class Task(Protocol):
    """Work of one kind, sent to each actor once; it and its items are plain data."""

    @property
    def experiment(self) -> Experiment:
        """The experiment whose pair is needed, as `sent_experiment` gives it."""

    def open(self, pair: Pair) -> Callable[[Any], Any]:
        """Make ready on a pair, in the actor; return what is then called with each item."""

    def label(self, item: Any) -> str:
        """Return an item's name for messages."""


class Actors(Protocol):
    """Actors that carry out tasks; `cluster.pool.Pool` is one."""

    def work(self, task: Task, items: Any) -> Generator[Any, None, None]:
        """Yield the result of each item, in any order."""

    def sent(self, experiment: Experiment, pair: Pair) -> Experiment:
        """Return an experiment as an actor reads it."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Answer of an actor that cannot carry out an item.

    An exception would arrive wrapped, with the traceback of another machine in its message.
    """

    error: StatebridgeError | RuntimeError
    node: str
    """Id of the node that the actor is on."""


class ModelActor:
    """Owns every model that its tasks asked for; runs one call after another."""

    def __init__(self, threads: int, versions: dict[str, str], plugins: dict[str, bytes]) -> None:
        """Take the threads that torch may use here, the driver's versions and its plug-ins."""
        torch.set_num_threads(threads)
        # Before a task arrives, which may hold what a plug-in defines.
        self._plugins = load_plugin_texts(plugins)
        self._versions = versions
        self._models: dict[tuple[Any, ...], TracedModel] = {}
        self._open: dict[str, Callable[[Any], Any]] = {}

    def load(self, experiment: Experiment) -> None:
        """Load an experiment's pair early; what fails here fails again in `open`."""
        _answer(lambda: self._pair(experiment))

    def open(self, key: str, task: Task) -> Failure | None:
        """Make a task ready under a key."""

        def ready() -> None:
            fault = node_fault(self._versions, (task.experiment.sender, task.experiment.receiver))
            if fault is not None:
                raise EnvironmentFault(fault)
            self._open[key] = task.open(self._pair(task.experiment))

        found: Failure | None = _answer(ready)
        return found

    def do(self, key: str, item: Any) -> Any:
        """Return the result of an item of an open task, or a failure."""
        return _answer(lambda: self._open[key](item))

    def forget(self, key: str) -> None:
        """Give back what an open task holds; models stay loaded."""
        self._open.pop(key, None)

    def _pair(self, experiment: Experiment) -> Pair:
        devices, maps = pair_devices(experiment.execution), experiment.device_maps
        dtype = experiment.dtype
        sender = self._model(experiment.sender, dtype, str(devices[0]), maps[0])
        receiver = self._model(experiment.receiver, dtype, str(devices[1]), maps[1])
        return declared_pair(experiment, Pair(sender, receiver))

    def _model(
        self,
        side: ModelAtLayer,
        dtype: str,
        device: str,
        device_map: str | dict[str, str] | None,
    ) -> TracedModel:
        where = repr(device_map) if device_map else device
        key = (side.model, side.revision, side.adapter, side.weights, dtype, where)
        if key not in self._models:
            at = side.model_copy(update={"layer": 0})
            self._models[key] = load_model(at, dtype=dtype, device=device, device_map=device_map)
        return self._models[key]


def _answer(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except StatebridgeError as error:
        return Failure(error, _own_node())
    except Exception:  # an error of ours, or of a library underneath
        return Failure(RuntimeError(traceback.format_exc()), _own_node())


def _own_node() -> str:
    import ray  # noqa: PLC0415 - an extra

    return str(ray.get_runtime_context().get_node_id())
