"""Devices of a server: how they are declared, and whose experiments run together on several."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from statebridge.errors import EnvironmentFault, ExperimentError, InputError
from statebridge_server import serve
from statebridge_server.settings import fixed_settings, load_settings
from statebridge_server.store import queue
from statebridge_server.store.database import Database
from statebridge_server.store.keys import LOCAL
from statebridge_server.submission import check_submission, public_experiment
from statebridge_server.worker.job_run import spread
from statebridge_server.worker.loaded_models import LoadedModels
from tests.server.conftest import tiny_experiment
from tests.server.test_queue import enqueue, find


def test_devices_are_declared_for_each_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [each.device for each in fixed_settings({"device": "cpu"}).copies] == ["cpu"]
    apart = [{"device": f"cuda:{n}", "sender_device": f"cuda:{n + 1}"} for n in (2, 4)]
    limits = {"group_seconds": 3600}
    settings = fixed_settings({"device": "cpu", "devices": apart, "limits": limits})
    assert settings.numbered_gpus == [2, 3, 4, 5]
    placed = settings.placement
    assert (placed.executor, placed.workers, placed.group_seconds) == ("ray", 2, 3600)
    assert (placed.device, placed.sender_device) == ("cuda:0", "cuda:1"), "of those it sees"
    assert fixed_settings({"devices": ["cuda:3"]}).placement.device == "cuda:3"
    assert fixed_settings(settings.model_dump(mode="json")) == settings
    monkeypatch.setenv("STATEBRIDGE_DEVICES", json.dumps(["cpu", "cpu"]))
    assert len(load_settings(data=tmp_path).copies) == 2
    for wrong, expected in (
        ([], "devices"),
        (["gpu"], "devices.0"),
        ([{"devise": "cpu"}], "devise"),
        (["cuda:0", "cpu"], "one kind of device"),
        (["cuda:0", apart[0]], "one kind of device"),
        (["cuda:1", "cuda:1"], "cuda:1 is listed twice"),
        ([{"device": "cuda:1", "more": ["cuda:1"]}], "cuda:1 is listed twice"),
        ([{"device": "cpu", "more": ["cuda:1"]}], "more: are GPUs beside a GPU"),
        ([{"device": "cuda:0", "more": ["cuda:1"]}, "cuda:2"], "with as many more"),
    ):
        monkeypatch.setenv("STATEBRIDGE_DEVICES", json.dumps(wrong))
        with pytest.raises(InputError, match=expected):
            load_settings()


def test_more_gpus_of_a_copy_are_of_its_actor() -> None:
    both = [{"device": f"cuda:{n}", "more": [f"cuda:{n + 1}"]} for n in (2, 4)]
    settings = fixed_settings({"devices": both})
    assert settings.numbered_gpus == [2, 3, 4, 5]
    placed = settings.placement
    assert (placed.workers, placed.worker_gpus, placed.device) == (2, 2, "cuda:0")
    alone = fixed_settings({"devices": both[:1]})
    assert (alone.placement.executor, alone.placement.device) == ("in_process", "cuda:0")
    assert alone.sees_listed
    side = {"model": "a/b", "device_map": {"": "cuda:2"}}
    pair = {"sender": side, "receiver": side}
    with pytest.raises(ValueError, match=r"pairs.a: device_map names cuda:2, and each copy"):
        fixed_settings({"devices": both, "pairs": {"a": pair}})


LAID = {"": "cpu"}


@pytest.mark.parametrize(
    ("maps", "expected"),
    [
        ((None, None), ("cuda:0", None, "cuda:1", None)),
        ((LAID, "auto"), ("auto", "auto", None, LAID)),
        ((None, LAID), ("auto", LAID, "cuda:1", None)),
        (("auto", None), ("cuda:0", None, None, "auto")),
    ],
)
def test_a_listed_map_is_an_experiment_s(
    maps: tuple[Any, Any], expected: tuple[Any, ...], database: Database
) -> None:
    sides = {
        side: {"model": f"a/{side}", "device_map": of_side}
        for side, of_side in zip(("sender", "receiver"), maps, strict=True)
    }
    devices = [
        {"device": f"cuda:{n}", "sender_device": f"cuda:{n + 1}", "more": [f"cuda:{n + 2}"]}
        for n in (0, 3)
    ]
    settings = fixed_settings({"pairs": {"one": sides}, "devices": devices})
    body = tiny_experiment(conditions=["no_inject"], execution={"max_lanes": 8}) | {
        side: {"model": f"a/{side}", "layer": 1} for side in sides
    }
    taken = check_submission(body, settings, database, LOCAL).experiment
    assert taken.device_maps == maps
    on = spread(taken, settings.placement).execution
    assert (on.executor, on.workers, on.worker_gpus, on.max_lanes) == ("ray", 2, 3, 8)
    found = (on.device, on.device_map, on.sender_device, on.sender_device_map)
    assert found == expected
    shown = public_experiment(taken.model_dump(mode="json"), settings.pairs["one"])
    assert not {"device_map", "sender_device_map", "sender_device"} & set(shown["execution"])
    if maps != (None, None):
        with pytest.raises(ExperimentError, match="device_map: needs the plain path"):
            check_submission(body | {"execution": {"path": "shared"}}, settings, database, LOCAL)


def test_a_worker_holds_each_side_where_it_is_declared(
    pair_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from statebridge_server.worker import loaded_models

    load, asked = loaded_models.load_model, []

    def load_here(at: object, *, device: str, dtype: str, **_: object) -> object:
        asked.append(device)
        return load(at, dtype=dtype, device="cpu")  # type: ignore[arg-type]

    monkeypatch.setattr(loaded_models, "load_model", load_here)
    itself = {side: {"model": str(pair_folder / "sender")} for side in ("sender", "receiver")}
    apart = {"device": "cuda:1", "sender_device": "cuda:0"}
    LoadedModels(fixed_settings({"pairs": {"one": itself}, "devices": ["cuda:2"]})).preload("one")
    assert asked == ["cuda:2"], "one model on one device is loaded once"
    models = LoadedModels(fixed_settings({"pairs": {"one": itself}, "devices": [apart]}))
    models.preload("one")
    assert asked[1:] == ["cuda:0", "cuda:1"]
    described = models.describe("one")
    assert described is not None
    assert [len(described[side]) for side in ("sender", "receiver")] == [1, 1]


def test_several_devices_without_ray_are_refused_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve, "find_spec", lambda _: None)
    with pytest.raises(EnvironmentFault, match=r"^devices: several need Ray, .*statebridge\[ray\]"):
        serve.serve(fixed_settings({"data": str(tmp_path), "devices": ["cpu", "cpu"]}))


def test_keys_that_wait_are_passed_over(database: Database) -> None:
    enqueue(database, "ann", "ann0")
    enqueue(database, "ann", "ann1")
    enqueue(database, "ben", "ben0")
    first = queue.take_next(database)
    second = queue.take_next(database, ["ann"])
    assert [job and job.name for job in (first, second)] == ["ann0", "ben0"]
    assert queue.take_next(database, ["ann", "ben"]) is None
    assert second is not None
    queue.put_back(database, second.id)
    assert [find(database, job.id).state for job in (first, second) if job] == ["running", "queued"]
