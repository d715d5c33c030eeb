"""The kind of step in which groups of lanes are decoded: the seam to `engine.cuda_graphs`.

The dynamic step is the default on a CPU. Steps of static shapes, and CUDA graphs of them, are
used on a GPU and inside `decoding_step`; their package is imported only then.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

import torch

from statebridge.engine.decoding.lanes import DecodingSettings, Prefilled, decode_dynamic
from statebridge.engine.decoding.sampling import Draws
from statebridge.models.quantized import is_quantized
from statebridge.models.traced_model import TracedModel

GPU_LOOK_EVERY = 8
"""Steps between two checks for lanes that have ended: each check waits for the GPU."""

Step = Literal["dynamic", "static", "graph"]
"""How a step runs: over the filled positions, over the whole capacity, or that as a CUDA graph."""

STEPS: tuple[Step, ...] = get_args(Step)

_BY_DEFAULT: dict[str, Step] = {"cuda": "graph"}
_chosen: dict[str, Step] = dict(_BY_DEFAULT)
"""By the device's type; "dynamic" on every other."""


@contextmanager
def decoding_step(step: Step | None) -> Iterator[None]:
    """Decode every group in one kind of step, on every device; None changes nothing."""
    before = dict(_chosen)
    if step is not None:
        _chosen.update(cpu=step, cuda=step)
    try:
        yield
    finally:
        _chosen.clear()
        _chosen.update(before)


def step_on(device: torch.device) -> Step:
    """Return the kind of step in which groups on a device are decoded."""
    return _chosen.get(device.type, "dynamic")


def _step_of(model: TracedModel) -> Step:
    # Kernels of weights of few bits have not been tried in static shapes or a CUDA graph.
    return "dynamic" if is_quantized(model.module) else step_on(model.device)


def decode_lanes(
    model: TracedModel,
    lanes: Prefilled,
    settings: DecodingSettings,
    *,
    draws: Draws | None = None,
    look_every: int | None = None,
    step: Step | None = None,
) -> list[list[int]]:
    """Return the new tokens of each lane, the end token included where it was reached.

    Equal to Hugging Face's greedy `generate` with the same two processors on each row alone; as
    there, scores are compared in float32 whatever the model's dtype. With `draws`, tokens are
    sampled from the distribution after the processors, each lane by its own numbers. The lanes'
    cache is used up.

    Args:
        draws: Numbers for at least as many steps; None decodes greedily.
        look_every: Steps between two checks for lanes that have ended; None checks at every step
            on a CPU and at every eighth on a GPU. It changes no token.
        step: None takes CUDA graphs on a GPU and the dynamic step on a CPU. In float32 it
            changes no token, apart from near ties within rounding. Lanes behind a message are
            decoded in dynamic steps only.

    Raises:
        ValueError: A CUDA graph is requested without a GPU, or a step of static shapes for lanes
            behind a message.
    """
    device = lanes.logits.device
    look_every = look_every or (GPU_LOOK_EVERY if device.type == "cuda" else 1)
    requested = step if step is not None or _chosen == _BY_DEFAULT else step_on(device)
    step = step or _step_of(model)
    if step == "graph" and device.type != "cuda":
        raise ValueError(f"a CUDA graph cannot be captured on {device}; it needs a GPU")
    if requested not in (None, "dynamic") and lanes.front is not None:
        raise ValueError(
            f"step {requested}: lanes behind a message are decoded in dynamic steps; leave it out"
        )
    if step != "dynamic" and lanes.front is None:
        from statebridge.engine.cuda_graphs.decode import decode_static  # noqa: PLC0415 - chosen
        from statebridge.engine.cuda_graphs.hold import StepHold  # noqa: PLC0415

        hold = None if step == "graph" else StepHold(None)
        found = decode_static(model, lanes, settings, draws, look_every, hold)
        if found is not None:
            return found
    return decode_dynamic(model, lanes, settings, draws, look_every)


def buffered_prompt(model: TracedModel, prompt: int, new: int) -> int | None:
    """Return how many positions a prompt has in static buffers; None for the dynamic step.

    Args:
        prompt: Tokens of the longest prompt.
        new: New tokens.
    """
    if _step_of(model) == "dynamic":
        return None
    from statebridge.engine.cuda_graphs import decode  # noqa: PLC0415 - chosen

    return decode.buffered_prompt(model, prompt, new)


def give_back() -> None:
    """Free the buffers and graphs that are kept on GPUs, after memory ran out."""
    if torch.cuda.is_available():
        from statebridge.engine.cuda_graphs import hold  # noqa: PLC0415 - on a GPU only

        hold.give_back()
