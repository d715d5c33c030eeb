"""A pool of actors: it feeds them items, and gives what a dead one had to others."""

from __future__ import annotations

import itertools
import logging
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any, ClassVar

import torch

from statebridge.engine.cluster.actor import Failure, ModelActor, Task
from statebridge.engine.cluster.connection import (
    check_nodes,
    connected,
    count_workers,
    needs_of,
    sent_experiment,
)
from statebridge.engine.cluster.nodes import node_name
from statebridge.errors import EnvironmentFault, InputError
from statebridge.experiment.experiment import Experiment
from statebridge.plugins import plugin_texts

TRIES = 3
"""Times that an item is tried before it fails the work; also loads, of an actor that dies in it."""

AHEAD = 32
"""Items that may be finished or under way past the oldest that is not, for each worker: results
wait in memory until all before them are there."""

LOOK_SECONDS = 10.0
"""Time without any answer after which the cluster is looked at."""

LOST_SECONDS = 120.0
"""Time that is waited for a node that can hold an actor, once there is none."""

log = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class _Worker:
    """A place in the pool: its actor of the moment, and what that was given."""

    actor: Any
    running: deque[int] = field(default_factory=deque)
    """Places of the items that it has, the one that it is at first."""
    failed_loads: int = 0
    """Actors in this place that died before they were ready, one after another."""


@dataclass(slots=True)
class _Work:
    """One task under way."""

    key: str
    task: Task
    sent: Any
    """Reference of the task in the object store."""
    items: Iterator[Any]
    given: dict[int, Any] = field(default_factory=dict)
    """Items that are not finished, by place."""
    oldest: int = 0
    """The first of these places, or the next one."""
    taken: int = 0
    """Items that were taken so far."""
    waiting: deque[int] = field(default_factory=deque)
    tries: Counter[int] = field(default_factory=Counter)
    pending: dict[Future[Any], tuple[_Worker, int | None]] = field(default_factory=dict)
    """Answer to each call: whose it is, and the place of its item; None while it opens."""
    free: dict[_Worker, None] = field(default_factory=dict)
    """Workers that are ready and have no item, in the order in which they became so."""
    busy: dict[_Worker, None] = field(default_factory=dict)
    """The same, of those that have one item."""


class Pool:
    """Actors on a cluster; made by `held_pool`.

    What the driver does for an item takes as long for 500 actors as for two.
    """

    _held: ClassVar[dict[tuple[Any, ...], tuple[Pool, int]]] = {}

    def __init__(
        self, ray: Any, experiment: Experiment, answers: SimpleQueue[Future[Any]] | None = None
    ) -> None:
        """Check the nodes, start the actors, and let them load the experiment's pair.

        Args:
            ray: The module, connected.
            experiment: Whose execution says where, and how many.
            answers: Queue in which answers arrive.
        """
        self._ray, self._keys = ray, itertools.count()
        self._answers: SimpleQueue[Future[Any]] = answers or SimpleQueue()
        needs = needs_of(experiment.execution)
        count = count_workers(ray, experiment.execution, needs)
        sent = sent_experiment(experiment)
        versions = check_nodes(ray, sent, needs)
        self._needs = needs
        self._actors = ray.remote(ModelActor).options(
            num_cpus=needs.cpus, num_gpus=needs.gpus, max_restarts=0, max_task_retries=0
        )
        self._arguments = (torch.get_num_threads(), versions, plugin_texts())
        self._workers = [_Worker(self._started()) for _ in range(count)]
        first = ray.put(sent)
        for worker in self._workers:
            worker.actor.load.remote(first)

    @property
    def size(self) -> int:
        """Number of workers."""
        return len(self._workers)

    def sent(self, experiment: Experiment) -> Experiment:
        """Return an experiment as an actor reads it."""
        return sent_experiment(experiment)

    def work(self, task: Task, items: Iterable[Any]) -> Iterator[Any]:
        """Yield the result of each item, in the order in which they are finished.

        Items are taken as they are needed. One whose actor dies goes to another actor.

        Raises:
            StatebridgeError: An item failed `TRIES` times, or no node is left.
        """
        key = f"task {next(self._keys)}"
        try:
            work = _Work(key, task, self._ray.put(task), iter(items))
            for worker in self._workers:
                self._open(worker, work)
            yield from self._results(work)
        finally:
            for worker in self._workers:
                worker.running.clear()
                worker.actor.forget.remote(key)

    def close(self) -> None:
        """End all actors."""
        for worker in self._workers:
            self._ray.kill(worker.actor)

    def _started(self) -> Any:
        return self._actors.remote(*self._arguments)

    def _open(self, worker: _Worker, work: _Work) -> None:
        self._ask(worker.actor.open.remote(work.key, work.sent), worker, None, work)

    def _ask(self, call: Any, worker: _Worker, place: int | None, work: _Work) -> None:
        answer: Future[Any] = call.future()
        work.pending[answer] = worker, place
        answer.add_done_callback(self._answers.put)

    def _results(self, work: _Work) -> Iterator[Any]:
        answered = time.monotonic()
        while self._feed(work):
            try:
                answer = self._answers.get(timeout=LOOK_SECONDS)
            except Empty:
                if time.monotonic() - answered > LOST_SECONDS:
                    self._check_room(work)
                continue
            answered = time.monotonic()
            # An actor that was given up, or another task, may still answer.
            worker, place = work.pending.pop(answer, (None, None))
            if worker is not None and place is None:
                self._opened(answer, worker, work)
            elif worker is not None and place is not None:
                yield from self._finished(answer, worker, place, work)

    def _feed(self, work: _Work) -> bool:
        """Give items to workers that can take one; return whether any is unfinished.

        A worker gets a second item, so that it need not wait for the driver, where there are
        enough for all: a last one must not wait behind a long one while another worker is free.
        """
        while work.oldest < work.taken and work.oldest not in work.given:
            work.oldest += 1
        limit = work.oldest + AHEAD * self.size
        while len(work.waiting) < 2 * self.size and work.taken < limit:
            item = next(work.items, work)  # `work` marks the end
            if item is work:
                break
            work.given[work.taken] = item
            work.waiting.append(work.taken)
            work.taken += 1
        while work.waiting and (work.free or (work.busy and len(work.waiting) >= self.size)):
            second = not work.free
            worker = next(iter(work.busy if second else work.free))
            del (work.busy if second else work.free)[worker]
            place = work.waiting.popleft()
            worker.running.append(place)
            self._ask(worker.actor.do.remote(work.key, work.given[place]), worker, place, work)
            if not second:
                work.busy[worker] = None
        return bool(work.given)

    def _opened(self, answer: Future[Any], worker: _Worker, work: _Work) -> None:
        try:
            failure = answer.result()
        except self._ray.exceptions.RayActorError as death:
            worker.failed_loads += 1
            if worker.failed_loads >= TRIES:
                raise EnvironmentFault(
                    f"execution.executor ray: an actor died {TRIES} times while it loaded the pair "
                    f"({_reason(death)}); see the memory of the nodes, and Ray's logs there"
                ) from None
            self._replace(worker, work)
            return
        except self._ray.exceptions.RayError as unread:
            raise EnvironmentFault(
                f"execution.executor ray: an actor cannot read what the driver sends ("
                f"{_reason(unread)}); install on each node what adds to the experiment here"
            ) from None
        if isinstance(failure, Failure):
            error = failure.error
            raise type(error)(f"{self._name(failure.node)}: {error}")
        worker.failed_loads = 0
        work.free[worker] = None

    def _finished(
        self, answer: Future[Any], worker: _Worker, place: int, work: _Work
    ) -> Iterator[Any]:
        try:
            result = answer.result()
        except self._ray.exceptions.RayActorError as death:
            self._buried(death, worker, work)
            return
        except self._ray.exceptions.RayError as lost:  # the node that held the result is gone
            result = Failure(EnvironmentFault(_reason(lost)), "")
        worker.running.remove(place)
        work.busy.pop(worker, None)
        (work.busy if worker.running else work.free)[worker] = None
        if isinstance(result, Failure):
            self._tried(place, result.error, self._name(result.node), work)
            return
        del work.given[place]
        yield result

    def _buried(self, death: Exception, worker: _Worker, work: _Work) -> None:
        """Give a dead actor's items to others; the one that it was at counts as tried."""
        lost = list(worker.running)
        log.warning("a worker ended (%s); %d unfinished go to others", _reason(death), len(lost))
        self._replace(worker, work)
        work.waiting.extendleft(reversed(lost[1:]))
        self._tried(lost[0], EnvironmentFault(_reason(death)), "an actor that died", work)

    def _tried(self, place: int, error: Exception, where: str, work: _Work) -> None:
        work.tries[place] += 1
        label = work.task.label(work.given[place])
        if isinstance(error, InputError):  # the same again wherever it is tried
            raise type(error)(f"{label}: on {where}: {error}")
        if work.tries[place] >= TRIES:
            raise type(error)(f"{label}: failed {TRIES} times, at last on {where}: {error}")
        work.waiting.appendleft(place)

    def _replace(self, worker: _Worker, work: _Work) -> None:
        self._ray.kill(worker.actor)
        # What it was given comes back as errors of a dead actor, which are of no further use.
        work.pending = {call: own for call, own in work.pending.items() if own[0] is not worker}
        work.free.pop(worker, None)
        work.busy.pop(worker, None)
        worker.running.clear()
        worker.actor = self._started()
        self._open(worker, work)

    def _check_room(self, work: _Work) -> None:
        if work.free or work.busy or any(worker.running for worker in self._workers):
            return  # a long item
        if any(map(self._needs.fits, self._ray.nodes())):
            return  # a model that loads
        raise EnvironmentFault(
            f"execution.executor ray: no node is left that has {self._needs.resources}, since "
            f"{LOST_SECONDS:g} s; {len(work.given)} items are unfinished; add a node, and start the"
            " same command again"
        )

    def _name(self, node_id: str) -> str:
        names = {node["NodeID"]: f"node {node_name(node)}" for node in self._ray.nodes()}
        return names.get(node_id, "a node that is gone")


def _reason(death: Exception) -> str:
    """Return the first line that says why an actor died."""
    lines = [line.strip() for line in str(death).splitlines() if line.strip()]
    saying = [line for line in lines if "died" in line.lower() or "exit" in line.lower()]
    return " ".join((saying or lines or [type(death).__name__])[-1].split())[:200]


@contextmanager
def held_pool(experiment: Experiment) -> Iterator[Pool]:
    """Give the pool of an experiment's execution; it is closed when its last holder is done.

    Within another `held_pool` of the same execution it is the same pool, whose actors keep the
    models that they have.

    Raises:
        EnvironmentFault: No Ray, no cluster, no room, or a node that lacks something.
        ExperimentError: The address is none.
    """
    execution = experiment.execution
    key = (execution.address, execution.workers, execution.device, execution.sender_device)
    pool, holders = Pool._held.get(key, (None, 0))
    with ExitStack() as stack:
        if pool is None:
            ray = stack.enter_context(connected(execution.address))
            pool = Pool(ray, experiment)
            stack.callback(pool.close)
        Pool._held[key] = pool, holders + 1
        try:
            yield pool
        finally:
            if holders:
                Pool._held[key] = pool, holders
            else:
                del Pool._held[key]
