"""A pool of actors: it feeds them items, and gives what a dead one had to others.

Several threads may have work under way. One at a time is at work itself, with what it shares with
the others (the models of this process among them): it has the pool's `turn`, and sets it down
while it waits for an answer.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
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
from statebridge.experiment.experiment import Execution, Experiment
from statebridge.models.pair import Pair
from statebridge.plugins import plugin_texts

TRIES = 3
"""Times that an item is tried before it fails the work; also loads, of an actor that dies in it."""

AHEAD = 32
"""Items that may be finished or under way past the oldest that is not, for each worker: results
wait in memory until all before them are there."""

LOOK_SECONDS = 10.0
"""Time between two looks at the actors' deadlines, and the longest wait for an answer."""

LOST_SECONDS = 120.0
"""Time that is waited for a node that can hold an actor, once there is none."""

SHARE: ContextVar[str] = ContextVar("share", default="")
"""Name for which a thread works; actors are shared evenly among the names that have work."""

log = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class _Worker:
    """A place in the pool: its actor of the moment, and what that was given."""

    actor: Any
    running: deque[tuple[_Work, int | None]] = field(default_factory=deque)
    """Calls that it has, the present one first: work and place of an item, None to open it."""
    since: float = 0.0
    """Time from which the deadline of the present one counts: it was asked for, or the one before
    it was answered."""
    failed_loads: int = 0
    """Actors in this place that died before they were ready, one after another."""


@dataclass(eq=False, slots=True)
class _Work:
    """One task under way."""

    key: str
    task: Task
    sent: Any
    """Reference of the task in the object store."""
    items: Iterator[Any]
    share: str
    given: dict[int, Any] = field(default_factory=dict)
    """Items that are not finished, by place."""
    oldest: int = 0
    """The first of these places, or the next one."""
    taken: int = 0
    """Items that were taken so far."""
    waiting: deque[int] = field(default_factory=deque)
    tries: Counter[int] = field(default_factory=Counter)
    results: deque[Any] = field(default_factory=deque)
    """Results that its thread has not taken."""
    error: Exception | None = None
    """Reason for which it ends."""


class Turn:
    """A lock that threads get in the order in which they ask for it.

    With a plain one, a thread that sets it down and finds its answer there has it again before
    those that wait have awoken.
    """

    def __init__(self) -> None:
        self._guard, self._line = threading.Lock(), deque[threading.Lock]()

    def acquire(self) -> None:
        """Wait for the turn."""
        own = threading.Lock()
        own.acquire()
        with self._guard:
            self._line.append(own)
            first = len(self._line) == 1
        if not first:
            own.acquire()

    def release(self) -> None:
        """Set the turn down, for the next in line."""
        with self._guard:
            self._line.popleft()
            if self._line:
                self._line[0].release()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


class Pool:
    """Actors on a cluster; made by `held_pool`.

    What the driver does for an item takes as long for 500 actors as for two.

    Attributes:
        turn: Held by the thread that made the pool, and by each that calls `work`, except while it
            waits for an answer.
    """

    _held: ClassVar[dict[tuple[Any, ...], tuple[Pool, int]]] = {}

    def __init__(
        self,
        ray: Any,
        execution: Execution,
        experiment: Experiment | None = None,
        answers: SimpleQueue[Future[Any] | None] | None = None,
    ) -> None:
        """Check the nodes, start the actors, and let them load an experiment's pair.

        Args:
            ray: The module, connected.
            execution: Says where, and how many.
            experiment: Whose pair the actors load at once, and each node must have.
            answers: Queue in which answers arrive.
        """
        self._ray, self._keys = ray, itertools.count()
        self._answers: SimpleQueue[Future[Any] | None] = answers or SimpleQueue()
        needs = needs_of(execution)
        count = count_workers(ray, execution, needs)
        sent = None if experiment is None else sent_experiment(experiment)
        versions = check_nodes(ray, sent, needs)
        self._needs = needs
        self._actors = ray.remote(ModelActor).options(
            num_cpus=needs.cpus, num_gpus=needs.gpus, max_restarts=0, max_task_retries=0
        )
        self._arguments = (torch.get_num_threads(), versions, plugin_texts())
        self._workers = [_Worker(self._started()) for _ in range(count)]
        self._free: dict[_Worker, None] = dict.fromkeys(self._workers)
        """Workers that have nothing to do, in the order in which they became so."""
        self._busy: dict[_Worker, None] = {}
        """The same, of those that have one item and nothing else."""
        self._works: list[_Work] = []
        self._pending: dict[Future[Any], tuple[_Worker, _Work, int | None]] = {}
        """Answer to each call: whose it is, its work, and the place of its item."""
        self._under: Counter[str] = Counter()
        """Items that actors have, by share."""
        self._served: dict[str, int] = {}
        """When each share was last given an actor, counted."""
        self._moments, self._answered = itertools.count(), time.monotonic()
        self._limit, self._looked = execution.group_seconds, self._answered
        self.turn, self._listening = Turn(), Turn()
        self.turn.acquire()
        if sent is not None:
            first = ray.put(sent)
            for worker in self._workers:
                worker.actor.load.remote(first)

    @property
    def size(self) -> int:
        """Number of workers."""
        return len(self._workers)

    def sent(self, experiment: Experiment, pair: Pair) -> Experiment:
        """Return an experiment as an actor reads it."""
        return sent_experiment(experiment, pair)

    def work(self, task: Task, items: Iterable[Any]) -> Generator[Any, None, None]:
        """Yield the result of each item, in the order in which they are finished.

        Items are taken as they are needed. One whose actor dies goes to another actor. What actors
        have when the iterator is closed they finish for nothing.

        Raises:
            StatebridgeError: An item failed `TRIES` times, or no node is left.
        """
        key = f"task {next(self._keys)}"
        work = _Work(key, task, self._ray.put(task), iter(items), SHARE.get())
        self._works.append(work)
        self._answered = time.monotonic()
        try:
            for worker in self._workers:
                self._open(worker, work)
            while True:
                if work.error is not None:
                    raise work.error
                unfinished = self._take(work)
                self._give()
                if work.results:
                    yield work.results.popleft()
                elif unfinished:
                    self._wait(work)
                else:
                    return
        finally:
            self._works.remove(work)
            work.given.clear()
            work.waiting.clear()
            self._served.pop(key, None)
            for worker in self._workers:
                worker.actor.forget.remote(key)

    def close(self) -> None:
        """End all actors."""
        for worker in self._workers:
            self._ray.kill(worker.actor)

    def _started(self) -> Any:
        return self._actors.remote(*self._arguments)

    def _open(self, worker: _Worker, work: _Work) -> None:
        self._ask(worker.actor.open.remote(work.key, work.sent), worker, work, None)

    def _ask(self, call: Any, worker: _Worker, work: _Work, place: int | None) -> None:
        worker.running.append((work, place))
        if len(worker.running) == 1:
            worker.since = time.monotonic()
        self._sort(worker)
        answer: Future[Any] = call.future()
        self._pending[answer] = worker, work, place
        answer.add_done_callback(self._answers.put)

    def _sort(self, worker: _Worker) -> None:
        """Put a worker among the free or the busy ones, or neither."""
        running = worker.running
        free, busy = not running, len(running) == 1 and running[0][1] is not None
        for fits, where in ((free, self._free), (busy, self._busy)):
            where.pop(worker, None)
            if fits:
                where[worker] = None

    def _take(self, work: _Work) -> bool:
        """Take the items that a task needs next; return whether any is unfinished."""
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
        return bool(work.given)

    def _give(self) -> None:
        """Give items to workers that can take one.

        A worker gets a second item, so that it need not wait for the driver, where there are
        enough for all: a last one must not wait behind a long one while another worker is free.
        The turn goes to the share with the fewest items on actors, then to the one that has waited
        longest.
        """
        while asking := [work for work in self._works if work.waiting]:
            second = not self._free
            if second and sum(len(work.waiting) for work in asking) < self.size:
                return
            worker = next(iter(self._busy if second else self._free), None)
            if worker is None:
                return
            work = min(asking, key=self._place_in_line)
            self._served[work.share] = self._served[work.key] = next(self._moments)
            place = work.waiting.popleft()
            self._under[work.share] += 1
            call = worker.actor.do.remote(work.key, work.given[place])
            self._ask(call, worker, work, place)

    def _place_in_line(self, work: _Work) -> tuple[int, int, int]:
        served = self._served
        return self._under[work.share], served.get(work.share, -1), served.get(work.key, -1)

    def _wait(self, work: _Work) -> None:
        """Set the turn down until an answer has arrived, for whichever work, and deal with it."""
        answer = None
        self.turn.release()
        try:
            with self._listening:
                if not (work.results or work.error):
                    answer = self._answers.get(timeout=LOOK_SECONDS)
        except Empty:
            if time.monotonic() - self._answered > LOST_SECONDS:
                self._check_room()
        finally:
            self.turn.acquire()
        if answer is not None:
            self._answered = time.monotonic()
            other = self._arrived(answer)
            self._give()
            if other not in (None, work):
                self._answers.put(None)  # its thread may listen, and would not look
        self._end_late()

    def _end_late(self) -> None:
        """End the actors that are past the deadline of their item."""
        now = time.monotonic()
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked, late = now, []
        for answer, (worker, work, place) in self._pending.items():
            limit = self._limit_of(work)
            at_it = place is not None and worker.running[0] == (work, place)
            # An answer may be there that this thread has not dealt with.
            if at_it and limit and now - worker.since > limit and not answer.done():
                late.append((worker, limit))
        for worker, limit in late:
            reason = f"did not end in {limit:g} s, the value of execution.group_seconds"
            self._buried(worker, reason, "an actor that was ended")
        if late:
            self._give()
            self._answers.put(None)

    def _limit_of(self, work: _Work) -> float | None:
        both = (work.task.experiment.execution.group_seconds, self._limit)
        return min((limit for limit in both if limit is not None), default=None)

    def _arrived(self, answer: Future[Any]) -> _Work | None:
        """Deal with an answer; return whose it is, None for an actor that was given up."""
        worker, work, place = self._pending.pop(answer, (None, None, None))
        if worker is None or work is None:
            return None
        try:
            result = answer.result()
        except self._ray.exceptions.RayActorError as death:
            self._buried(worker, _reason(death))
            return work
        except self._ray.exceptions.RayError as unread:
            result = self._lost(_reason(unread), place)
        worker.running.remove((work, place))
        worker.since = time.monotonic()
        self._sort(worker)
        if place is None:
            worker.failed_loads = 0
            if isinstance(result, Failure):
                where = f"{self._name(result.node)}: " if result.node else ""
                work.error = type(result.error)(f"{where}{result.error}")
            return work
        self._under[work.share] -= 1
        if isinstance(result, Failure):
            self._tried(work, place, result.error, self._name(result.node))
        elif place in work.given:  # else the work has ended
            del work.given[place]
            work.results.append(result)
        return work

    def _lost(self, reason: str, place: int | None) -> Failure:
        if place is not None:  # the node that held the result is gone
            return Failure(EnvironmentFault(reason), "")
        return Failure(
            EnvironmentFault(
                "execution.executor ray: an actor cannot read what the driver sends ("
                f"{reason}); install on each node what adds to the experiment here"
            ),
            "",
        )

    def _buried(self, worker: _Worker, reason: str, where: str = "an actor that died") -> None:
        """Give a dead actor's items to others; the one that it was at counts as tried."""
        lost = [(work, place) for work, place in worker.running if place is not None]
        log.warning("a worker ended (%s); %d unfinished go to others", reason, len(lost))
        first, at = worker.running[0]
        self._pending = {call: own for call, own in self._pending.items() if own[0] is not worker}
        worker.running.clear()
        for work, place in reversed(lost):
            self._under[work.share] -= 1
            if (work, place) != (first, at) and place in work.given:
                work.waiting.appendleft(place)
        if at is not None:
            self._tried(first, at, EnvironmentFault(reason), where)
        else:
            worker.failed_loads += 1
            if worker.failed_loads >= TRIES:
                worker.failed_loads = 0
                first.error = EnvironmentFault(
                    f"execution.executor ray: an actor died {TRIES} times while it loaded the pair "
                    f"({reason}); see the memory of the nodes, and Ray's logs there"
                )
        self._ray.kill(worker.actor)
        worker.actor = self._started()
        self._sort(worker)
        for work in self._works:
            if work.error is None:
                self._open(worker, work)

    def _tried(self, work: _Work, place: int, error: Exception, where: str) -> None:
        if place not in work.given:
            return
        work.tries[place] += 1
        label = work.task.label(work.given[place])
        if isinstance(error, InputError):  # the same again wherever it is tried
            work.error = type(error)(f"{label}: on {where}: {error}")
        elif work.tries[place] >= TRIES:
            work.error = type(error)(f"{label}: failed {TRIES} times, at last on {where}: {error}")
        else:
            work.waiting.appendleft(place)

    def _check_room(self) -> None:
        has = [[place for _, place in worker.running] for worker in self._workers]
        if not all(places and set(places) == {None} for places in has):
            return  # a long item
        if any(map(self._needs.fits, self._ray.nodes())):
            for work in self._works:  # a model that loads
                limit, waited = self._limit_of(work), time.monotonic() - self._answered
                if limit and waited > limit:
                    work.error = EnvironmentFault(
                        f"execution.executor ray: no actor has loaded the pair in {waited:.0f} s, "
                        f"longer than execution.group_seconds ({limit:g} s); see whether other "
                        f"work holds {self._needs.words}, the volume that holds the models, "
                        "and Ray's logs on the nodes, and start the same command again"
                    )
            return
        for work in self._works:
            work.error = EnvironmentFault(
                f"execution.executor ray: no node is left that has {self._needs.words}, since "
                f"{LOST_SECONDS:g} s; {len(work.given)} items are unfinished; add a node, and "
                "start the same command again"
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
def held_pool(execution: Execution, experiment: Experiment | None = None) -> Iterator[Pool]:
    """Give the pool of an execution; it is closed when its last holder is done.

    Within another `held_pool` of the same execution it is the same pool, whose actors keep the
    models that they have; the caller then has the pool's turn.

    Args:
        execution: Says where, and how many.
        experiment: Whose pair the actors of a new pool load at once.

    Raises:
        EnvironmentFault: No Ray, no cluster, no room, or a node that lacks something.
        ExperimentError: The address is none.
    """
    # A control of one model may need fewer GPUs than the pair whose actors it runs on.
    key = (execution.address, execution.workers, needs_of(execution).gpus > 0)
    with ExitStack() as stack:
        if key not in Pool._held:
            ray = stack.enter_context(connected(execution.address))
            pool = Pool(ray, execution, experiment)
            stack.callback(pool.close)
            Pool._held[key] = pool, 0
        pool, holders = Pool._held[key]
        Pool._held[key] = pool, holders + 1
        try:
            yield pool
        finally:
            holders = Pool._held.pop(key)[1] - 1
            if holders:
                Pool._held[key] = pool, holders
