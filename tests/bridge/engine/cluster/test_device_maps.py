"""A pair laid over the devices of an actor: what it asks for, and its rows."""

from __future__ import annotations

import pickle
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from statebridge.engine.cluster import connection
from statebridge.engine.cluster.actor import Failure, ModelActor
from statebridge.engine.cluster.connection import Needs, needs_of, sent_experiment
from statebridge.engine.cluster.nodes import own_versions
from statebridge.engine.executors import on_ray
from statebridge.errors import ExperimentError
from statebridge.experiment.experiment import Execution, Experiment
from statebridge.models import loading
from statebridge.models.pair import Pair
from tests.bridge.engine.emulated_devices import ONE, OTHER, emulated_devices
from tests.bridge.engine.executors.test_device_map import RUN, check_rows, maps, over
from tests.bridge.engine.executors.test_two_devices import experiment_of, run
from tests.bridge.engine.tiny_experiment import neox_pair
from tests.tiny_models import save_pair_folder

pytest.importorskip("accelerate", reason="accelerate is not installed")

ON_RAY = {"executor": "ray", "workers": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `sender` and `receiver`, as `from_pretrained` reads them."""
    folder, oracle = tmp_path_factory.mktemp("pair"), neox_pair(torch.float64)
    for name, module in (("sender", oracle.sender), ("receiver", oracle.receiver)):
        save_pair_folder(module, oracle.tokenizer, folder / name)
    return folder


class OneActor:
    """A pool of one real actor in this process; what it gets and gives is pickled."""

    def __init__(self) -> None:
        self.actor = ModelActor(1, own_versions(), {})

    def sent(self, experiment: Experiment, pair: Pair) -> Experiment:
        return sent_experiment(experiment, pair)

    def work(self, task: Any, items: Any) -> Generator[Any, None, None]:
        failed = self.actor.open("task", pickle.loads(pickle.dumps(task)))
        assert not isinstance(failed, Failure), failed
        for item in items:
            found = self.actor.do("task", pickle.loads(pickle.dumps(item)))
            assert not isinstance(found, Failure), found
            yield pickle.loads(pickle.dumps(found))


@pytest.fixture
def actor(monkeypatch: pytest.MonkeyPatch) -> OneActor:
    """The actor of executor ray."""
    own = OneActor()

    @contextmanager
    def held(*_: Any) -> Iterator[OneActor]:
        yield own

    monkeypatch.setattr(on_ray, "held_pool", held)
    return own


@pytest.mark.slow
def test_rows_of_an_actor_with_two_devices_are_those_of_one(
    folder: Path, actor: OneActor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = RUN | {"conditions": ["no_inject", "scale_corrected"]}
    expected = run(tmp_path / "one", experiment_of(folder, {"device": "cpu"}, **fields))
    monkeypatch.setattr(loading, "check_map", lambda *_: None)
    load, named, seen = loading.map_arguments, {"cuda:0": ONE, "cuda:1": OTHER}, list[set[str]]()

    def emulated(device_map: Any) -> dict[str, Any]:
        seen.append(set(device_map.values()))
        return load({path: named[place] for path, place in device_map.items()})

    monkeypatch.setattr(loading, "map_arguments", emulated)
    with emulated_devices():
        laid = experiment_of(folder, maps("cuda:0", "cuda:1") | ON_RAY, **fields)
        check_rows(run(tmp_path / "laid", laid), expected)
    assert seen == [{"cuda:0", "cuda:1"}] * 4, "of the driver's pair, and of the actor's"
    assert len(actor.actor._models) == 2


@pytest.fixture
def eight_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that says it has eight GPUs."""

    def resolve(execution: Execution) -> tuple[torch.device, torch.device]:
        receiver = "cuda" if execution.device == "auto" else execution.device
        return torch.device(execution.sender_device or receiver), torch.device(receiver)

    monkeypatch.setattr(connection, "pair_devices", resolve)


@pytest.mark.usefixtures("eight_gpus")
def test_an_actor_asks_for_each_gpu_that_its_pair_is_on(folder: Path) -> None:
    receiver, sender = over("cuda:6", "cuda:4", 4), over("cuda:4", "cuda:1", 3)
    for fields, gpus, own in (
        ({"device": "cuda:3"}, 1, ("cuda:0", None, "cuda:0", None)),
        ({"device": "cuda:3", "sender_device": "cuda:1"}, 2, ("cuda:0", None, "cuda:1", None)),
        ({"device_map": "auto", "worker_gpus": 4}, 4, ("auto", "auto", None, "auto")),
        (
            {"device_map": receiver, "sender_device_map": sender},
            3,
            ("auto", over("cuda:1", "cuda:0", 4), None, over("cuda:0", "cuda:2", 3)),
        ),
        (
            {"device_map": receiver, "sender_device": "cuda:7"},
            3,
            ("auto", over("cuda:1", "cuda:0", 4), "cuda:2", None),
        ),
        (
            {"device": "cuda:5", "sender_device_map": {"": "cuda:5"}},
            1,
            ("cuda:0", None, None, {"": "cuda:0"}),
        ),
    ):
        experiment = experiment_of(folder, fields | ON_RAY, **RUN)
        assert needs_of(experiment.execution) == Needs(1, gpus), fields
        on = sent_experiment(experiment).execution
        assert (on.device, on.device_map, on.sender_device, on.sender_device_map) == own


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"device_map": "auto", **ON_RAY}, "execution.device_map: needs execution.worker_gpus"),
        ({"worker_gpus": 2}, "execution: worker_gpus: is of executor ray"),
    ],
)
def test_gpus_of_a_worker_that_are_missing_are_one_line(
    fields: dict[str, Any], words: str, folder: Path
) -> None:
    with pytest.raises(ExperimentError) as refused:
        experiment_of(folder, fields, **RUN)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)
