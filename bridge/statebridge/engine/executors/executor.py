"""Executors: they carry groups of rows out, here or elsewhere.

An executor takes the groups of a plan and yields their results in any order; the run commits
them in the order of the plan (`engine.commit`). A new executor is one file in this
room, or in a distribution of its own with an entry point in the group `statebridge.executors`:

    @EXECUTORS.add("in_process")
    class InProcess: ...

An experiment names it as `execution.executor`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

from statebridge.channels.channel import CHANNELS
from statebridge.channels.workload import Workload
from statebridge.errors import ExperimentError
from statebridge.experiment.experiment import Experiment
from statebridge.records import LaneResult
from statebridge.registry import Registry
from statebridge.runs.directory import lane_text
from statebridge.runs.plan import Group


@dataclass(frozen=True, slots=True)
class FinishedGroup:
    """The results of a group; made by `FinishedGroup.of`, where the group ran.

    Attributes:
        index: The group's `index`.
        lanes: Text of each lane for the file of rows, by cell name and row id.
    """

    index: int
    lanes: Mapping[tuple[str, str], bytes]

    @classmethod
    def of(cls, index: int, lanes: Iterable[tuple[str, LaneResult]]) -> FinishedGroup:
        """Return the results of a group from the cell name and result of each lane, in any order.

        Raises:
            NumericError: A measured value is not finite.
        """
        return cls(index, {(cell, row.row_id): lane_text(cell, row) for cell, row in lanes})


class Executor(Protocol):
    """Runs groups of one plan. It is made with the plan's workload, and closed at the end."""

    def __init__(self, workload: Workload) -> None:
        """Take the workload, whose plan can be sent elsewhere (`workload.plan` is plain data)."""

    def run(self, groups: Iterable[Group]) -> Iterator[FinishedGroup]:
        """Yield every group's results, in any order.

        Groups should be taken from `groups` as they are needed: it reads what earlier runs
        computed as it goes on.

        Raises:
            StatebridgeError: A group cannot be run. Groups that were yielded before stay
                committed.
        """

    def close(self) -> None:
        """Give back what the executor holds; called once, also after an error."""


EXECUTORS: Registry[type[Executor]] = Registry(
    "executor",
    package="statebridge.engine.executors",
    group="statebridge.executors",
    error=ExperimentError,
    methods={"__init__": ("workload",), "run": ("groups",), "close": ()},
)


def held(experiment: Experiment) -> AbstractContextManager[Any]:
    """Hold what an experiment's executor needs for longer than the groups of one run.

    An executor whose class has a method `hold(experiment)` is asked before anything is loaded, and
    may refuse there. Its context manager gives actors that fit maps and make the checks inside the
    sender as well (`cluster.actor.Actors`), or None; all others need nothing.
    """
    hold = getattr(EXECUTORS.get(experiment.execution.executor), "hold", None)
    return nullcontext() if hold is None else hold(experiment)


def executor_ready(experiment: Experiment) -> str:
    """Return what the executor has to work with, in words.

    An executor whose class has a method `ready(experiment)` is asked; others are always ready.

    Raises:
        StatebridgeError: It cannot carry the experiment out.
    """
    name = experiment.execution.executor
    ready = getattr(EXECUTORS.get(name), "ready", None)
    return f"{name}{'' if ready is None else f': {ready(experiment)}'}"


def check_names(experiment: Experiment) -> str:
    """Refuse channels and an executor that are not registered; return the names of those in use.

    Raises:
        ExperimentError: Names the field, and the nearest name that is registered.
    """
    executor, channels = experiment.execution.executor, {}
    EXECUTORS.get(executor, "execution.executor")
    for condition in experiment.resolved_conditions:
        name = condition.channel_name
        channels[name] = CHANNELS.get(name, f"conditions: {condition.name}: channel")
    return f"executor {executor}, channels {', '.join(channels)}"
