"""The executor of a Ray cluster: actors that own a pair each run groups at the same time."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import dataclass, replace
from typing import Any

from statebridge.channels.workload import Workload
from statebridge.engine.cluster.connection import describe_cluster, sent_experiment
from statebridge.engine.cluster.pool import Pool, held_pool
from statebridge.engine.executors.executor import EXECUTORS, FinishedGroup
from statebridge.engine.executors.in_process import InProcess
from statebridge.engine.planning.prepare import on_pair
from statebridge.experiment.experiment import Experiment
from statebridge.models.pair import Pair, check_copy, pair_facts
from statebridge.runs.plan import Group, Plan, TranslatorKey
from statebridge.translators import Translator


@EXECUTORS.add("ray")
class OnRay:
    """Runs groups on the actors of a cluster, as many at a time as there are actors."""

    def __init__(self, workload: Workload) -> None:
        self._task, experiment = GroupTask.of(workload), workload.plan.experiment
        self._held = ExitStack()
        self._pool: Pool = self._held.enter_context(held_pool(experiment.execution, experiment))

    @staticmethod
    def hold(experiment: Experiment) -> AbstractContextManager[Pool]:
        """Start the actors, which load the pair while this process loads its own."""
        return held_pool(experiment.execution, experiment)

    @staticmethod
    def ready(experiment: Experiment) -> str:
        """Return what the cluster has; refuses as `hold` does, and starts no actor."""
        return describe_cluster(experiment)

    def run(self, groups: Iterable[Group]) -> Iterator[FinishedGroup]:
        """Yield each group's results as they arrive; a group whose actor dies goes to another."""
        # Closed with the executor: a run that stops early must not be given actors any longer.
        return self._held.enter_context(closing(self._pool.work(self._task, groups)))

    def close(self) -> None:
        """End the actors, unless the caller holds them for more."""
        self._held.close()


@dataclass(frozen=True, slots=True)
class GroupTask:
    """Running groups of one plan, as it is sent to an actor.

    Attributes:
        experiment: As an actor reads it.
        plan: Without its groups, which are sent one by one.
        translators: On the CPU.
        facts: Facts of the driver's pair, of which the actor's must be a copy.
    """

    experiment: Experiment
    plan: Plan
    translators: Mapping[TranslatorKey, Translator]
    facts: Mapping[str, str]

    @classmethod
    def of(cls, workload: Workload) -> GroupTask:
        """Return the task of a workload that is ready here."""
        translators = {
            key: each if each.device.type == "cpu" else copy.deepcopy(each).cpu()
            for key, each in workload.translators.items()
        }
        plan = replace(workload.plan, groups=())
        experiment = sent_experiment(plan.experiment, workload.pair)
        return cls(experiment, plan, translators, pair_facts(workload.pair))

    def open(self, pair: Pair) -> Callable[[Group], FinishedGroup]:
        """Make the plan ready on an actor's pair.

        Raises:
            PairError: The pair is not the driver's.
            StatebridgeError: As `prepare`.
        """
        check_copy(pair, self.facts)
        device = pair.receiver.device
        translators = {key: each.to(device) for key, each in self.translators.items()}
        path = InProcess(on_pair(self.plan, pair, translators))
        return lambda group: next(path.run([group]))

    def label(self, item: Any) -> str:
        """Return a group's name for messages: its channel and its rows."""
        group: Group = item
        first, last = (self.plan.rows[group.rows[place]].row_id for place in (0, -1))
        rows = f"row {first}" if len(group.rows) == 1 else f"{len(group.rows)} rows, {first}"
        return f"channel {group.channel}, {rows}{'' if first == last else f' to {last}'}"
