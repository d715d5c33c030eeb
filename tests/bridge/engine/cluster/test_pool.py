"""The pool on actors without processes: each item once, whatever dies; reasons of failures."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from statebridge.engine.cluster import pool as pools
from statebridge.engine.cluster.actor import Failure
from statebridge.engine.cluster.pool import AHEAD, SHARE, TRIES, Pool
from statebridge.errors import EnvironmentFault, NumericError
from statebridge.experiment import Experiment
from tests.bridge.engine.cluster.fake_ray import (
    Death,
    FakeActor,
    FakeQueue,
    FakeRay,
    Hang,
    RayError,
)

EXPERIMENT = Experiment.model_validate(
    {
        "name": "pool",
        "sender": {"model": "no/sender", "layer": 1},
        "receiver": {"model": "no/receiver", "layer": 1},
        "dataset": {"generate": {"rows": 2}},
        "conditions": ["no_inject"],
        "execution": {"device": "cpu"},
    }
)


class Doubling:
    """Doubles numbers, and does to some of them what a test asks for."""

    experiment = EXPERIMENT

    def __init__(self, **cues: Callable[[FakeActor, int], Any]) -> None:
        self.cues = cues
        self.done: Counter[int] = Counter()

    def open(self, actor: Any) -> Callable[[int], Any]:
        def double(item: int) -> Any:
            self.done[item] += 1
            cue = self.cues.get(f"at_{item}") or self.cues.get("at_all")
            found = None if cue is None else cue(actor, item)
            return 2 * item if found is None else found

        return double

    def label(self, item: int) -> str:
        return f"item {item}"


@pytest.fixture
def make_pool(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Pool]:
    monkeypatch.setattr(pools, "check_nodes", lambda *_: {})

    def make(ray: FakeRay, workers: int = 3) -> Pool:
        monkeypatch.setattr(pools, "count_workers", lambda *_: workers)
        return Pool(ray, EXPERIMENT.execution, EXPERIMENT, FakeQueue(ray))  # type: ignore[arg-type]

    return make


def _dies(actor: FakeActor, item: int) -> None:
    raise Death


def _hangs(actor: FakeActor, item: int) -> None:
    raise Hang


def _is_not_finite(actor: FakeActor, item: int) -> Failure:
    return Failure(NumericError("state of row r7 is not finite"), "n1")


@pytest.mark.parametrize("seed", range(20))
def test_every_item_is_done_once_while_actors_die(
    seed: int, make_pool: Callable[..., Pool]
) -> None:
    ray = FakeRay(seed)
    ended = []

    def sometimes(actor: FakeActor, item: int) -> None:
        if task.done[item] == 1 and ray.random.random() < 0.2:
            raise Death
        others = [each for each in ray.actors if each.alive and each is not actor]
        # Once only: no item is lost `TRIES` times.
        if others and not ended and ray.random.random() < 0.1:
            ended.append(ray.random.choice(others))
            ended[0].end("The node of the actor died.")

    task = Doubling(at_all=sometimes)
    found = list(make_pool(ray).work(task, range(60)))
    assert sorted(found) == [2 * item for item in range(60)]


def test_an_item_that_kills_its_actor_fails_with_its_reason(
    make_pool: Callable[..., Pool],
) -> None:
    task = Doubling(at_5=_dies)
    results = make_pool(FakeRay()).work(task, range(40))
    with pytest.raises(EnvironmentFault, match=r"^item 5: failed 3 times.*exited with code 1"):
        list(results)
    assert task.done[5] == TRIES
    assert all(count == 1 for item, count in task.done.items() if item != 5)


def _with_deadline(seconds: float) -> Experiment:
    execution = EXPERIMENT.execution.model_copy(update={"group_seconds": seconds})
    return EXPERIMENT.model_copy(update={"execution": execution})


@pytest.mark.parametrize("seed", range(5))
def test_an_actor_past_its_deadline_loses_its_items(
    seed: int, make_pool: Callable[..., Pool], monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = FakeRay(seed)
    monkeypatch.setattr(pools, "time", SimpleNamespace(monotonic=lambda: ray.now))

    def hangs_at_first(actor: FakeActor, item: int) -> None:
        if task.done[item] == 1:
            raise Hang

    task = Doubling(at_5=hangs_at_first)
    task.experiment = _with_deadline(3600.0)
    pool = make_pool(ray)
    assert sorted(pool.work(task, range(40))) == [2 * item for item in range(40)]
    assert task.done == Counter(range(40)) + Counter([5])
    assert 3600 < ray.now <= 3600 + 2 * pools.LOOK_SECONDS
    assert [actor.alive for actor in ray.actors].count(False) == 1
    assert sorted(pool.work(Doubling(), range(4))) == [0, 2, 4, 6]


@pytest.mark.parametrize("of_the_pool", [False, True])
def test_an_item_that_never_ends_fails_with_its_deadline(
    of_the_pool: bool, make_pool: Callable[..., Pool], monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = FakeRay()
    monkeypatch.setattr(pools, "time", SimpleNamespace(monotonic=lambda: ray.now))
    task = Doubling(at_5=_hangs)
    limits = (7200.0, 3600.0) if of_the_pool else (3600.0, 7200.0)
    task.experiment, declared = map(_with_deadline, limits)
    monkeypatch.setattr("tests.bridge.engine.cluster.test_pool.EXPERIMENT", declared)
    with pytest.raises(
        EnvironmentFault,
        match=r"^item 5: failed 3 times, .* ended: did not end in 3600 s.*execution.group_seconds",
    ):
        list(make_pool(ray).work(task, range(40)))
    assert task.done == Counter(range(40)) + Counter([5] * (TRIES - 1))


def test_loads_that_never_end_are_past_the_deadline_too(
    make_pool: Callable[..., Pool], monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = FakeRay()
    ray.there = [{"NodeID": "n1", "Alive": True, "Resources": {"CPU": 1000}}]
    monkeypatch.setattr(pools, "time", SimpleNamespace(monotonic=lambda: ray.now))
    pool, task = make_pool(ray), Doubling()
    task.experiment = _with_deadline(3600.0)
    ray.slow.update(ray.actors)
    with pytest.raises(
        EnvironmentFault,
        match=r"no actor has loaded the pair in 3\d+ s, longer.*\(3600 s\).* holds \d+ CPU",
    ):
        list(pool.work(task, range(4)))


def test_an_error_of_an_item_is_the_one_that_is_raised(make_pool: Callable[..., Pool]) -> None:
    ray = FakeRay()
    ray.there = [{"NodeID": "n1", "NodeManagerAddress": "10.0.0.7", "Alive": True}]
    task = Doubling(at_3=_is_not_finite)
    with pytest.raises(NumericError) as caught:
        list(make_pool(ray).work(task, range(9)))
    assert str(caught.value) == (
        "item 3: failed 3 times, at last on node 10.0.0.7 (n1): state of row r7 is not finite"
    )


def test_a_result_that_is_lost_with_its_node_is_made_again(make_pool: Callable[..., Pool]) -> None:
    def lost_at_first(actor: FakeActor, item: int) -> None:
        if task.done[item] == 1:
            raise RayError("The object is lost.")

    task = Doubling(at_2=lost_at_first)
    assert sorted(make_pool(FakeRay()).work(task, range(5))) == [0, 2, 4, 6, 8]
    assert task.done[2] == 2


def test_actors_that_die_while_they_load_end_the_work(make_pool: Callable[..., Pool]) -> None:
    class NeverReady(Doubling):
        def open(self, actor: Any) -> Callable[[int], Any]:
            raise Death

    with pytest.raises(EnvironmentFault, match="an actor died 3 times while it loaded the pair"):
        list(make_pool(FakeRay()).work(NeverReady(), range(5)))


def test_items_wait_for_the_oldest_one_within_a_bound(make_pool: Callable[..., Pool]) -> None:
    ray, taken = FakeRay(), []

    def items() -> Iterator[int]:
        for item in range(500):
            taken.append(item)
            yield item

    def never(actor: FakeActor, item: int) -> None:
        ray.slow.add(actor)  # it has answered by then: the next one it gets is not begun
        held.append(actor)

    held: list[FakeActor] = []
    pool = make_pool(ray, workers=2)
    results = pool.work(Doubling(at_0=never), items())
    found = [next(results) for _ in range(2 * AHEAD - 2)]
    stuck = min(set(range(500)) - {each // 2 for each in found})
    assert taken[-1] - stuck < 2 * AHEAD
    ray.slow.clear()
    assert len(found) + len(list(results)) == 500


def test_a_last_item_does_not_wait_behind_another(make_pool: Callable[..., Pool]) -> None:
    ray = FakeRay()
    queued: list[int] = []

    def look(actor: FakeActor, item: int) -> None:
        queued.append(len([call for call in actor.calls if call[1] == "do"]))

    list(make_pool(ray).work(Doubling(at_all=look), range(30)))
    assert max(queued) == 1  # while there is enough for all, one waits in each actor
    assert queued[-3:] == [0, 0, 0]


def test_work_ends_where_no_node_is_left(
    make_pool: Callable[..., Pool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pools, "LOST_SECONDS", 0.0)
    ray = FakeRay()
    pool = make_pool(ray)
    ray.slow.update(ray.actors)
    with pytest.raises(
        EnvironmentFault, match=r"no node is left that has \d[^{]*4 items are unfin"
    ):
        list(pool.work(Doubling(), range(4)))


def test_actors_serve_one_task_after_another(make_pool: Callable[..., Pool]) -> None:
    ray = FakeRay()
    pool = make_pool(ray)
    for _ in range(2):
        assert sorted(pool.work(Doubling(), range(4))) == [0, 2, 4, 6]
    broken = pool.work(Doubling(), range(50))
    next(broken)
    broken.close()
    assert sorted(pool.work(Doubling(), range(4))) == [0, 2, 4, 6]
    assert len(ray.actors) == pool.size
    pool.close()
    assert not any(actor.alive for actor in ray.actors)


def _shared(pool: Pool, share: str, task: Doubling, items: range) -> Iterator[int]:
    token = SHARE.set(share)
    results = pool.work(task, items)
    first = next(results)
    SHARE.reset(token)
    yield first
    yield from results


def test_shares_get_actors_evenly_however_much_one_has(make_pool: Callable[..., Pool]) -> None:
    pool, all_there = make_pool(FakeRay()), threading.Barrier(5)
    begun: list[str] = []

    def run(share: str) -> None:
        task = Doubling(at_all=lambda actor, item: begun.append(share))
        all_there.wait()
        with pool.turn:
            assert len(list(_shared(pool, share, task, range(120)))) == 120

    with ThreadPoolExecutor(4) as threads:
        ended = threads.map(run, ["ann", "ann", "ann", "ben"])
        all_there.wait()
        time.sleep(0.05)  # until they wait for this thread's turn
        pool.turn.release()
        list(ended)
    last = max(place for place, share in enumerate(begun) if share == "ben")
    # By turns of the experiments it would be 360; what remains is how threads happen to be woken.
    assert 60 < begun[:last].count("ann") < 180


def test_work_that_fails_or_stops_leaves_the_others_their_rows(
    make_pool: Callable[..., Pool],
) -> None:
    pool = make_pool(FakeRay(3))
    fails = _shared(pool, "ann", Doubling(at_3=_dies), range(100))
    stops = _shared(pool, "ben", Doubling(), range(100))
    goes_on = _shared(pool, "cle", Doubling(), range(100))
    found = [next(goes_on), next(goes_on)]
    next(stops)
    with pytest.raises(EnvironmentFault, match=r"^item 3: failed 3 times"):
        list(fails)
    stops.close()  # type: ignore[attr-defined]
    assert sorted([*found, *goes_on]) == [2 * item for item in range(100)]
    assert sorted(pool.work(Doubling(), range(4))) == [0, 2, 4, 6]


def test_threads_take_turns_and_each_has_its_own_results(make_pool: Callable[..., Pool]) -> None:
    pool = make_pool(FakeRay())
    pool.turn.release()
    inside, found = [0], {}

    def run(name: int) -> None:
        with pool.turn:
            results = []
            for result in pool.work(Doubling(), range(name, 300, 3)):
                inside[0] += 1
                assert inside[0] == 1
                results.append(result)
                inside[0] -= 1
            found[name] = sorted(results)

    with ThreadPoolExecutor(3) as threads:
        list(threads.map(run, range(3)))
    assert found == {name: [2 * item for item in range(name, 300, 3)] for name in range(3)}
