"""A static step is the same operations on the same addresses each time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from statebridge.engine.cuda_graphs.buffers import LaneState, StaticLanes
from statebridge.engine.cuda_graphs.shapes import StepShape, bucket, layout_of
from statebridge.engine.cuda_graphs.step import StaticStep
from statebridge.engine.decoding.lane_attention import lane_attention
from statebridge.engine.decoding.lanes import DecodingSettings, Prefilled, prefill
from statebridge.engine.decoding.sampling import Draws
from statebridge.models.token_batch import TokenBatch
from statebridge.models.traced_model import TracedModel
from tests.bridge.engine.cuda_graphs.taped_steps import Operations, Tape, lanes_sharing, traced
from tests.tiny_models import tiny_gemma, tiny_gpt2, tiny_llama, tiny_neox, tiny_qwen

PROMPTS = [[5, 6, 7, 8, 7, 8], [9, 3, 9], [4, 4, 4, 4, 4]]
NEW = 6
SETTINGS = DecodingSettings(NEW, 1.3, 3)
MODELS: dict[str, Callable[[], Any]] = {
    "neox": lambda: tiny_neox(1, layers=3, hidden=24, heads=3, end_share=0.9),
    "llama, grouped heads": lambda: tiny_llama(2, layers=3, hidden=24, heads=4, kv_heads=2),
    "gpt2": lambda: tiny_gpt2(3, layers=3, hidden=24, heads=2, vocab=12, end_share=0.6),
    "qwen2": lambda: tiny_qwen(4, version=2, layers=2, hidden=24, heads=4),
    "qwen3": lambda: tiny_qwen(4, version=3, layers=2, hidden=24, heads=4),
    "gemma3": lambda: tiny_gemma(4, version=3, sliding_window=512, layers=2, hidden=24, heads=4),
    "neox in bf16": lambda: tiny_neox(1, layers=3, hidden=24, heads=3).to(torch.bfloat16),
}


def _lanes(model: TracedModel, shared: bool) -> Prefilled:
    prompts = [[token % 12 for token in prompt] for prompt in PROMPTS]
    if shared:
        return lanes_sharing(model, prompts, [0, 0, 1, 2, 2], NEW)
    return prefill(model, TokenBatch.pack(prompts, model.pad_id), NEW)


def _state(lanes: Prefilled, model: TracedModel, draws: Draws | None) -> LaneState:
    grid = lanes.cache.grid
    shape = StepShape.around(
        lanes.logits.shape[0],
        lanes.batch.ids.shape[1],
        NEW,
        grid.count if grid else 0,
        grid.places if grid else 0,
    )
    layout = layout_of(lanes.cache)
    buffers = StaticLanes(layout, shape, model.end_ids, torch.device("cpu"))
    return buffers.load(shape, lanes, None if draws is None else draws.uniforms)


def _addresses(state: LaneState) -> list[tuple[int, torch.Size]]:
    tensors = [
        getattr(state, name)
        for name in LaneState.__dataclass_fields__
        if isinstance(getattr(state, name), torch.Tensor)
    ]
    for layer in state.cache.layers:
        tensors += [*layer._entries, *(layer.prompt or ())]
    assert len(tensors) >= 12
    return [(tensor.data_ptr(), tensor.shape) for tensor in tensors]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "shared", "sampled"),
    [
        ("neox", False, False),
        ("neox", True, True),
        ("llama, grouped heads", True, False),
        ("llama, grouped heads", False, True),
        ("gpt2", True, False),
        ("qwen2", True, False),
        ("qwen3", True, False),
        ("gemma3", False, False),
        # In half precision prompts are not shared.
        ("neox in bf16", False, False),
    ],
)
def test_two_steps_are_the_same_operations_without_waiting(
    kind: str, shared: bool, sampled: bool
) -> None:
    model = traced(MODELS[kind]())
    lanes = _lanes(model, shared)
    count, logits = lanes.logits.shape[0], lanes.logits
    uniforms = torch.rand((count, NEW), dtype=torch.float64, generator=torch.Generator())
    draws = Draws(0.9, 0.8, uniforms) if sampled else None
    state = _state(lanes, model, draws)
    padded = logits.new_zeros((state.shape.lanes, logits.shape[1]))
    padded[:count] = logits
    before, steps = _addresses(state), []
    with torch.no_grad(), lane_attention(model, state.cache) as extra:
        step = StaticStep(model, state, SETTINGS, draws, by_lane=bool(extra))
        step.choose(padded)
        for _ in range(2):
            with Operations() as operations:
                step()
            steps.append(operations.calls)
    assert len(steps[0]) > 50
    for first, second in zip(*steps, strict=True):
        assert first == second
    assert _addresses(state) == before
    # The device has counted by itself.
    assert int(state.step) == 3
    assert int(state.last) == lanes.batch.ids.shape[1] + 2


def test_operations_that_wait_for_the_host_are_refused() -> None:
    # Otherwise the test above could not fail.
    values = torch.tensor([1.0, 0.0])
    waiting: list[Callable[[], Any]] = [
        lambda: float(values[0]),
        values.nonzero,
        lambda: values[values > 0],
        lambda: torch.tensor([3.0]),
        lambda: bool((values > 0).all()),
    ]
    for look in waiting:
        with pytest.raises(RuntimeError, match="not permitted"), Operations():
            look()
    with pytest.raises(RuntimeError, match="another device"), Operations():
        values.to("meta")


def test_a_tape_repeats_what_was_recorded_and_has_not_run() -> None:
    counter, log = torch.zeros(1, dtype=torch.int64), torch.zeros(4, dtype=torch.int64)
    python = [0]

    def step() -> None:
        python[0] += 1
        counter.add_(1)
        log.index_copy_(0, counter - 1, counter * 10 + python[0])

    tape = Tape()
    with tape:
        step()
    tape.undo()
    assert counter.tolist() == [0]
    assert log.tolist() == [0, 0, 0, 0]
    for _ in range(3):
        tape.play()
    # The device's counter goes on; Python's number is the one of the recording.
    assert log.tolist() == [11, 21, 31, 0]


def test_sizes_are_few_and_at_most_a_quarter_too_large() -> None:
    sizes = {count: bucket(count) for count in range(1, 2049)}
    assert all(count <= size for count, size in sizes.items())
    assert all(size <= 1.25 * count for count, size in sizes.items() if count > 8)
    assert len(set(sizes.values())) == 36
    assert all(bucket(size) == size for size in sizes.values())
    shape = StepShape.around(100, 47, 64, 4, 25)
    assert (shape.lanes, shape.capacity, shape.rows, shape.prompt) == (112, 128, 8, 64)
