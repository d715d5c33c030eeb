"""A group of lanes decoded in steps of static shapes, run directly or as CUDA graphs."""

from __future__ import annotations

from contextlib import suppress

import torch

from statebridge.engine.cuda_graphs.buffers import StaticLanes
from statebridge.engine.cuda_graphs.hold import StepHold, held_for
from statebridge.engine.cuda_graphs.shapes import StepShape, layout_of
from statebridge.engine.cuda_graphs.step import StaticStep, why_not_static
from statebridge.engine.decoding.lane_attention import attends_by_lane, lane_attention
from statebridge.engine.decoding.lane_grid import LaneGrid
from statebridge.engine.decoding.lanes import RETIRE_SHARE, DecodingSettings, Prefilled
from statebridge.engine.decoding.sampling import Draws
from statebridge.models.token_batch import to_device, to_host
from statebridge.models.traced_model import TracedModel


def decode_static(
    model: TracedModel,
    lanes: Prefilled,
    settings: DecodingSettings,
    draws: Draws | None,
    look_every: int,
    hold: StepHold | None = None,
) -> list[list[int]] | None:
    """Return the new tokens of each lane; None, with the lanes unchanged, if that is impossible.

    The reason is written to the log, once.

    Args:
        look_every: Steps between two checks for lanes that have ended.
        hold: Keeps buffers and recorded steps; the model's own if None.
    """
    hold = hold or held_for(model)
    if hold.refused or settings.max_new_tokens < 2:
        return None
    prompt, grid = lanes.batch.ids.shape[1], lanes.cache.grid
    shape = StepShape.around(
        lanes.logits.shape[0],
        prompt,
        settings.max_new_tokens,
        grid.count if grid is not None else 0,
        grid.places if grid is not None else 0,
    )
    reason = why_not_static(model, shape.capacity)
    if reason is not None:
        hold.warn(f"{model.name}: no decoding step of static shapes, {reason}")
        return None
    device = lanes.logits.device
    buffers = None
    # Suppressed, so that no traceback holds what was allocated.
    with suppress(torch.OutOfMemoryError, MemoryError):
        buffers = hold.lanes(layout_of(lanes.cache), shape, model.end_ids, device)
    if buffers is None:
        hold.forget()
        hold.warn(f"{model.name}: no memory for a decoding step of static shapes")
        return None
    try:
        with torch.no_grad():
            group = _Group(model, lanes, settings, draws, buffers, shape)
            with lane_attention(model, group.state.cache):
                while group.left and not group.finished:
                    if group.chosen % look_every == 0:
                        group.retire()
                        if group.finished:
                            break
                    hold.run(group.key, group.step, group.left)
                    group.chosen += 1
            return group.result()
    except (torch.OutOfMemoryError, MemoryError):
        hold.forget()
        raise
    finally:
        hold.leave_room(device)


def buffered_prompt(model: TracedModel, prompt: int, new: int) -> int | None:
    """Return the positions of a prompt in a lane's buffers; None if static steps are impossible."""
    shape = StepShape.around(1, prompt, new)
    return shape.prompt if why_not_static(model, prompt + new) is None else None


class _Group:
    """A group that is being decoded, as far as the host knows it.

    Attributes:
        chosen: New tokens of each lane so far.
        finished: Whether every lane had ended at the last check.
    """

    def __init__(
        self,
        model: TracedModel,
        lanes: Prefilled,
        settings: DecodingSettings,
        draws: Draws | None,
        buffers: StaticLanes,
        shape: StepShape,
    ) -> None:
        self._model, self._settings, self._draws = model, settings, draws
        self._buffers, self._prompt = buffers, lanes.batch.ids.shape[1]
        self._grid: LaneGrid | None = lanes.cache.grid
        count = lanes.logits.shape[0]
        self._active = list(range(count))
        self._found = torch.zeros(
            (count, settings.max_new_tokens + 1), dtype=torch.int64, device=buffers.device
        )
        logits = lanes.logits.new_zeros((shape.lanes, lanes.logits.shape[1]))
        logits[:count] = lanes.logits
        self.state = buffers.load(shape, lanes, None if draws is None else draws.uniforms)
        self._by_lane = attends_by_lane(model)
        self.step = self._made()
        self.step.choose(logits)
        self.chosen, self.finished = 1, False

    @property
    def left(self) -> int:
        """Steps that are left."""
        return self._settings.max_new_tokens - self.chosen

    @property
    def key(self) -> tuple[object, ...]:
        """Everything that a recorded step contains apart from the buffers."""
        settings, draws = self._settings, self._draws
        sampled = None if draws is None else (draws.temperature, draws.top_p)
        processors = settings.repetition_penalty, settings.no_repeat_ngram_size
        return (self.state.shape, processors, sampled)

    def retire(self) -> None:
        """Check which lanes have ended; move the others together if that spares enough."""
        here, shape = len(self._active), self.state.shape
        kept = (~self.state.done[:here]).nonzero()[:, 0].tolist()
        self.finished = not kept
        if not kept or here - len(kept) < RETIRE_SHARE * here:
            return
        grid = self._grid
        rows: list[int] = []
        if grid is not None:
            grid, rows = grid.keep(kept, shape.places)
        after = StepShape.around(
            len(kept), self._prompt, shape.steps, len(rows), shape.places if rows else 0
        )
        if after.lanes >= shape.lanes:
            return
        self._collect()
        self._active = [self._active[lane] for lane in kept]
        self._grid = grid
        self.state = self._buffers.keep(shape, after, kept, grid, rows)
        self.step = self._made()

    def result(self) -> list[list[int]]:
        """Return the new tokens of each lane, in one copy to the host."""
        self._collect()
        return [row[: row[-1]] for row in to_host(self._found).tolist()]

    def _made(self) -> StaticStep:
        return StaticStep(
            self._model, self.state, self._settings, self._draws, by_lane=self._by_lane
        )

    def _collect(self) -> None:
        """Copy the lanes' tokens, and how many of them count, into the group's result."""
        state, here = self.state, len(self._active)
        tokens = state.sequence[:here, self._prompt : self._prompt + state.shape.steps]
        rows = torch.cat((tokens, state.counts[:here, None]), dim=1)
        index = to_device(torch.tensor(self._active), self._found.device)
        self._found.index_copy_(0, index, rows)
