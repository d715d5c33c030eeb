"""Buffers and recorded steps that are kept from one group of lanes to the next."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from itertools import chain
from typing import Protocol
from weakref import WeakKeyDictionary

import torch

from statebridge.engine.cuda_graphs.recorder import CudaRecorder
from statebridge.engine.cuda_graphs.static_cache import Layout
from statebridge.engine.cuda_graphs.static_lanes import StaticLanes
from statebridge.engine.cuda_graphs.static_shapes import StepShape
from statebridge.models.traced_model import TracedModel

_log = logging.getLogger("statebridge.engine")

Step = Callable[[], None]

WARM_UP = 2
"""Steps of a shape that run before it is recorded: libraries set themselves up in them."""

WORTH_RECORDING = 8
"""Steps that a group must still have; recording takes about as long as a step by itself."""

MOST_STEPS, MOST_LAYOUTS = 16, 2
"""Recorded steps, and sets of buffers, that are kept for a model; the oldest in use goes."""


class StepRecorder(Protocol):
    """What turns a step into something that is repeated without Python."""

    def warm(self, step: Step) -> None:
        """Run a step as it is run before it is recorded."""

    def record(self, step: Step) -> Step:
        """Return what repeats a step over the same buffers; it has not run by then."""


class StepHold:
    """What one model keeps.

    Args:
        recorder: None runs every step as it is.
        weights: Addresses of the model's weights, which a recorded step has in it.
    """

    def __init__(self, recorder: StepRecorder | None, weights: tuple[int, ...] = ()) -> None:
        self.weights = weights
        self.refused = False
        self._recorder = recorder
        self._lanes: OrderedDict[Layout, StaticLanes] = OrderedDict()
        self._recorded: OrderedDict[tuple[Layout, Hashable], Step] = OrderedDict()
        self._warmed: dict[tuple[Layout, Hashable], int] = {}
        self._said: set[str] = set()

    @property
    def bytes(self) -> int:
        """Memory of the buffers."""
        return sum(lanes.bytes for lanes in self._lanes.values())

    @property
    def recorded(self) -> int:
        """How many recorded steps are kept."""
        return len(self._recorded)

    def lanes(
        self, layout: Layout, shape: StepShape, end_ids: Sequence[int], device: torch.device
    ) -> StaticLanes:
        """Return buffers that hold a shape; new ones, and larger, where the old do not.

        New buffers make what was recorded over the old ones worthless, and it is dropped.
        """
        extent = shape.extent
        held = self._lanes.pop(layout, None)
        if held is not None:
            extent = tuple(map(max, extent, held.extent))  # type: ignore[assignment]
        if held is None or held.extent != extent:
            # The old ones go first: both together might not fit.
            held = None
            self._forget(layout)
            while len(self._lanes) >= MOST_LAYOUTS:
                self._forget(next(iter(self._lanes)))
            held = StaticLanes(layout, extent, end_ids, device)
        self._lanes[layout] = held
        return held

    def run(self, layout: Layout, key: Hashable, step: Step, left: int) -> None:
        """Run a step once: as it is while its shape is new, recorded from then on.

        Args:
            key: What tells a recorded step from another over the same buffers.
            left: Steps that the group has left, this one included.
        """
        name = layout, key
        recorded = self._recorded.get(name)
        if recorded is None:
            recorded = self._record(name, step, left)
        if recorded is None:
            return
        self._recorded.move_to_end(name)
        recorded()

    def _record(self, name: tuple[Layout, Hashable], step: Step, left: int) -> Step | None:
        """Return what was recorded; None where the step ran as it is instead."""
        recorder, warmed = self._recorder, self._warmed.get(name, 0)
        if recorder is None or self.refused or left < WORTH_RECORDING - warmed:
            step()
            return None
        if warmed < WARM_UP:
            recorder.warm(step)
            self._warmed[name] = warmed + 1
            return None
        while len(self._recorded) >= MOST_STEPS:
            self._recorded.popitem(last=False)
        try:
            recorded = recorder.record(step)
        except torch.OutOfMemoryError:
            # The buffers stay: a group is on them. What is recorded is made again at need.
            self._recorded.clear()
            self.say("a decoding step was not captured for lack of memory; it runs as it is")
            step()
            return None
        except RuntimeError as error:
            self.refused = True
            self._recorded.clear()
            reason = str(error).partition("\n")[0]
            self.say(f"a decoding step could not be captured; the dynamic step runs: {reason}")
            step()
            return None
        self._recorded[name] = recorded
        return recorded

    def say(self, what: str) -> None:
        """Warn in the log, once for each thing."""
        if what not in self._said:
            self._said.add(what)
            _log.warning(what)

    def forget(self) -> None:
        """Drop all buffers and recorded steps."""
        for layout in list(self._lanes):
            self._forget(layout)

    def leave_room(self, device: torch.device) -> None:
        """Drop everything if less memory is free than the buffers take: the next group's too."""
        if device.type != "cuda":
            return
        free, _ = torch.cuda.mem_get_info(device)
        free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        if free < self.bytes:
            self.forget()

    def _forget(self, layout: Layout) -> None:
        self._lanes.pop(layout, None)
        for name in [name for name in self._recorded if name[0] == layout]:
            del self._recorded[name]
        for name in [name for name in self._warmed if name[0] == layout]:
            del self._warmed[name]


_HOLDS: WeakKeyDictionary[torch.nn.Module, StepHold] = WeakKeyDictionary()


def held_for(model: TracedModel) -> StepHold:
    """Return what a model on a GPU keeps; a new hold where its weights have moved."""
    module = model.module
    weights = tuple(tensor.data_ptr() for tensor in chain(module.parameters(), module.buffers()))
    hold = _HOLDS.get(module)
    if hold is None or hold.weights != weights:
        hold = _HOLDS[module] = StepHold(CudaRecorder(model.device), weights)
    return hold


def give_back() -> None:
    """Drop what every model keeps, where memory has run out."""
    for hold in list(_HOLDS.values()):
        hold.forget()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
