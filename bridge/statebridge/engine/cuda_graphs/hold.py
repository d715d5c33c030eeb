"""Buffers and CUDA graphs that a model keeps from one group of lanes to the next."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from itertools import chain
from typing import Protocol
from weakref import WeakKeyDictionary

import torch

from statebridge.engine.cuda_graphs.buffers import StaticLanes
from statebridge.engine.cuda_graphs.shapes import Layout, StepShape
from statebridge.models.traced_model import TracedModel

_log = logging.getLogger("statebridge.engine")

Step = Callable[[], None]

WARM_UP = 2
"""Steps of a shape that run before it is recorded: libraries set themselves up in them."""

WORTH_RECORDING = 8
"""Steps that a group must have left; recording takes about as long as a step."""

MOST_STEPS = 16
"""Recorded steps that are kept for a model; the least recently used one is dropped."""


class StepRecorder(Protocol):
    """Turns a step into a call that repeats it without Python."""

    def warm(self, step: Step) -> None:
        """Run a step in the way that precedes recording."""

    def record(self, step: Step) -> Step:
        """Return a call that repeats a step over the same buffers; the step itself has not run.

        Raises:
            RuntimeError: Something in the step cannot be recorded.
        """


class CudaRecorder:
    """Captures steps on one GPU, as torch's notes on CUDA graphs describe.

    The graphs share one memory pool. It holds only tensors that live inside a step, so the graphs
    may be repeated in any order, one at a time.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream: torch.cuda.Stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()

    def warm(self, step: Step) -> None:
        """Run a step on a side stream, where libraries set themselves up for the capture."""
        with torch.cuda.device(self._device):
            current = torch.cuda.current_stream()
            self._stream.wait_stream(current)
            with torch.cuda.stream(self._stream):
                step()
            current.wait_stream(self._stream)

    def record(self, step: Step) -> Step:
        """Capture a step; see `StepRecorder.record`."""
        graph = torch.cuda.CUDAGraph()
        with (
            torch.cuda.device(self._device),
            # Other threads may go on using the GPU: only this one's calls are captured.
            torch.cuda.graph(
                graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"
            ),
        ):
            step()

        def replay() -> None:
            with torch.cuda.device(self._device):
                graph.replay()

        return replay


class StepHold:
    """The buffers and recorded steps of one model.

    Args:
        recorder: None runs every step without recording it.
        weights: Addresses of the model's weights, which a recorded step contains.
    """

    def __init__(self, recorder: StepRecorder | None, weights: tuple[int, ...] = ()) -> None:
        self.weights = weights
        self.refused = False
        self._recorder = recorder
        self._lanes: StaticLanes | None = None
        self._recorded: OrderedDict[Hashable, Step] = OrderedDict()
        self._warmed: dict[Hashable, int] = {}
        self._logged: set[str] = set()

    @property
    def bytes(self) -> int:
        """Memory of the buffers."""
        return 0 if self._lanes is None else self._lanes.bytes

    @property
    def recorded(self) -> int:
        """Number of recorded steps."""
        return len(self._recorded)

    def lanes(
        self, layout: Layout, shape: StepShape, end_ids: Sequence[int], device: torch.device
    ) -> StaticLanes:
        """Return buffers that hold a shape, made anew if the present ones do not.

        New buffers make the steps that were recorded over the old ones worthless; they are dropped.
        """
        held, extent = self._lanes, shape.covering(shape)
        if held is not None and held.layout == layout:
            extent = held.extent.covering(shape)
        if held is None or (held.layout, held.extent) != (layout, extent):
            # The old ones are freed first: both together might not fit.
            held = None
            self.forget()
            held = self._lanes = StaticLanes(layout, extent, end_ids, device)
        return held

    def run(self, key: Hashable, step: Step, left: int) -> None:
        """Run a step once: directly while its shape is new, recorded from then on.

        Args:
            key: Tells recorded steps over the same buffers apart.
            left: Steps that the group has left, this one included.
        """
        if key in self._recorded:
            self._recorded.move_to_end(key)
            self._recorded[key]()
        else:
            self._new(key, step, left)()

    def _new(self, key: Hashable, step: Step, left: int) -> Step:
        """Return a new step as it is to run: directly, to warm up, or recorded."""
        recorder, warmed = self._recorder, self._warmed.get(key, 0)
        if recorder is None or self.refused or left < WORTH_RECORDING - warmed:
            return step
        if warmed < WARM_UP:
            self._warmed[key] = warmed + 1
            return lambda: recorder.warm(step)
        while len(self._recorded) >= MOST_STEPS:
            self._recorded.popitem(last=False)
        try:
            self._recorded[key] = recorder.record(step)
        except torch.OutOfMemoryError:
            # A group is using the buffers. Recorded steps are made again when they are needed.
            self._recorded.clear()
            self.warn("a decoding step was not captured for lack of memory; it runs directly")
        except RuntimeError as error:
            self.refused = True
            self._recorded.clear()
            reason = str(error).partition("\n")[0]
            self.warn(f"a decoding step could not be captured; the dynamic step runs: {reason}")
        return self._recorded.get(key, step)

    def warn(self, message: str) -> None:
        """Write a warning to the log, once for each message."""
        if message not in self._logged:
            self._logged.add(message)
            _log.warning(message)

    def forget(self) -> None:
        """Drop all buffers and recorded steps."""
        self._lanes = None
        self._recorded.clear()
        self._warmed.clear()

    def leave_room(self, device: torch.device) -> None:
        """Drop everything if less memory is free than the buffers take."""
        if device.type != "cuda":
            return
        free, _ = torch.cuda.mem_get_info(device)
        free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        if free < self.bytes:
            self.forget()


_HOLDS: WeakKeyDictionary[torch.nn.Module, StepHold] = WeakKeyDictionary()


def held_for(model: TracedModel) -> StepHold:
    """Return the hold of a model on a GPU; a new one if its weights have moved."""
    module = model.module
    weights = tuple(tensor.data_ptr() for tensor in chain(module.parameters(), module.buffers()))
    hold = _HOLDS.get(module)
    if hold is None or hold.weights != weights:
        hold = _HOLDS[module] = StepHold(CudaRecorder(model.device), weights)
    return hold


def give_back() -> None:
    """Drop the buffers and graphs of every model, after memory ran out."""
    for hold in list(_HOLDS.values()):
        hold.forget()
    torch.cuda.empty_cache()
