"""The executor of a Ray cluster: actors that own a pair each run groups at the same time."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import dataclass, replace
from typing import Any

import torch

from statebridge.channels.workload import Workload
from statebridge.engine.cluster.connection import describe_cluster, sent_experiment
from statebridge.engine.cluster.pool import Pool, held_pool
from statebridge.engine.executors.executor import EXECUTORS, FinishedGroup
from statebridge.engine.executors.in_process import InProcess
from statebridge.engine.planning.prepare import on_pair
from statebridge.errors import PairError
from statebridge.experiment.experiment import Experiment
from statebridge.models.pair import Pair
from statebridge.models.weights import weights_sha256
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


def pair_facts(pair: Pair) -> dict[str, str]:
    """Return what two copies of a pair have in common, by name."""
    facts = {}
    for side, model in (("sender", pair.sender), ("receiver", pair.receiver)):
        device = model.device
        facts[f"{side}'s weights"] = str(weights_sha256(model.module))
        facts[f"{side}'s device"] = (
            torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
        )
    return facts


def check_copy(pair: Pair, facts: Mapping[str, str]) -> None:
    """Refuse a pair that is not a copy of another.

    Raises:
        PairError: Names the first fact in which they differ.
    """
    for name, own in pair_facts(pair).items():
        if own != facts[name]:
            raise PairError(
                f"the {name} here is {own[:40]}, and the driver's {facts[name][:40]}; the rows of "
                "a run come from one pair on one kind of device"
            )
