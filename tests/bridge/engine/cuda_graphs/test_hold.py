"""Buffers and recorded steps between groups: bounded, and dropped when memory runs out."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import pytest
import torch

from statebridge.engine.cuda_graphs import decode as static_decoding
from statebridge.engine.cuda_graphs import hold as static_holds
from statebridge.engine.cuda_graphs.decode import decode_static
from statebridge.engine.cuda_graphs.hold import (
    MOST_STEPS,
    WORTH_RECORDING,
    StepHold,
    give_back,
    held_for,
)
from statebridge.engine.decoding import steps as decoding
from statebridge.engine.decoding.lanes import DecodingSettings, Prefilled, prefill
from statebridge.engine.decoding.steps import decode_lanes
from statebridge.models.token_batch import TokenBatch
from statebridge.models.traced_model import TracedModel
from tests.bridge.engine.cuda_graphs.taped_steps import TapeRecorder, lanes_sharing, traced
from tests.bridge.engine.tiny_experiment import dataset_rows, engine_pair, neox_pair, run_engine
from tests.tiny_models import mixed_rows, tiny_gemma, tiny_neox, tiny_qwen

NEW = 12
SETTINGS = DecodingSettings(NEW, 1.3, 3)
PROMPTS = [[5, 6, 7, 8], [9, 3], [4, 4, 4]]


@pytest.fixture(scope="module")
def model() -> TracedModel:
    return traced(tiny_neox(1, layers=2, hidden=16, heads=2, vocab=40, end_share=0.0))


def _lanes(model: TracedModel, prompts: list[list[int]] = PROMPTS, new: int = NEW) -> Prefilled:
    return prefill(model, TokenBatch.pack(prompts, model.pad_id), new)


def _decode(
    model: TracedModel,
    hold: StepHold,
    lanes: Prefilled | None = None,
    chosen: DecodingSettings = SETTINGS,
) -> list[list[int]] | None:
    lanes = lanes or _lanes(model)
    return decode_static(model, lanes, chosen, None, 50, hold)


def _expected(model: TracedModel) -> list[list[int]]:
    return decode_lanes(model, _lanes(model), SETTINGS, step="dynamic")


class _Refuses(TapeRecorder):
    """Cannot record: with the errors given, one after the other, the last for ever."""

    def __init__(self, *errors: Exception) -> None:
        super().__init__()
        self._errors = list(errors)

    def record(self, step: Callable[[], None]) -> Callable[[], None]:
        if not self._errors:
            return super().record(step)
        raise self._errors.pop(0)


def test_a_refused_capture_runs_directly_then_dynamically(
    model: TracedModel, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = _Refuses(RuntimeError("operation not permitted when stream is capturing\nat x"))
    hold = StepHold(recorder)
    with caplog.at_level(logging.WARNING, "statebridge.engine"):
        # The group goes on from where it is; nothing of it is lost or done twice.
        assert _decode(model, hold) == _expected(model)
        assert hold.refused
        lanes = _lanes(model)
        assert _decode(model, hold, lanes) is None
        assert lanes.cache.layers[0].own is not None
        assert decode_lanes(model, lanes, SETTINGS) == _expected(model)
    (message,) = caplog.messages
    assert message.endswith(
        "the dynamic step runs: operation not permitted when stream is capturing"
    )


def test_no_memory_for_a_capture_is_not_for_ever(
    model: TracedModel, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = _Refuses(torch.OutOfMemoryError("CUDA out of memory"))
    hold = StepHold(recorder)
    with caplog.at_level(logging.WARNING, "statebridge.engine"):
        assert _decode(model, hold) == _expected(model)
    assert not hold.refused
    assert recorder.recorded == 1
    assert "lack of memory" in caplog.text


def test_no_memory_for_buffers_leaves_the_dynamic_step(
    model: TracedModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(static_holds, "StaticLanes", refuse)
    with caplog.at_level(logging.WARNING, "statebridge.engine"):
        lanes = _lanes(model)
        for _ in range(2):
            assert _decode(model, StepHold(None), lanes) is None
        assert decode_lanes(model, lanes, SETTINGS, step="static") == _expected(model)
    assert "no memory" in caplog.text


def test_memory_that_runs_out_in_a_step_is_met_by_halving(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pair, rows = engine_pair(neox_pair()), dataset_rows(mixed_rows(6, seed=2))
    fields: dict[str, Any] = {
        "conditions": ["no_inject", "zero_replacement"],
        "decoding": {"max_new_tokens": 5},
    }
    expected = run_engine(pair, rows, {}, **fields).rows
    hold, refused = StepHold(TapeRecorder()), []

    def held(*more: Any) -> Any:
        return decode_static(*more[:5], hold)

    class Short(static_decoding.StaticStep):
        def __call__(self) -> None:
            if self._state.shape.lanes > 4:
                assert hold.bytes
                refused.append(self._state.shape.lanes)
                raise torch.OutOfMemoryError("CUDA out of memory")
            super().__call__()

    monkeypatch.setattr(static_decoding, "StaticStep", Short)
    monkeypatch.setattr(static_decoding, "decode_static", held)
    with decoding.decoding_step("static"):
        found = run_engine(pair, rows, {}, **fields).rows
    assert refused
    assert {key: row.token_ids for key, row in found.items()} == {
        key: row.token_ids for key, row in expected.items()
    }


def test_a_group_out_of_memory_drops_buffers_and_steps(
    model: TracedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold = StepHold(TapeRecorder())
    _decode(model, hold)
    assert hold.bytes
    assert hold.recorded == 1

    def refuse(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(hold, "run", refuse)
    with pytest.raises(torch.OutOfMemoryError):
        _decode(model, hold)
    assert (hold.bytes, hold.recorded) == (0, 0)


def test_buffers_grow_with_the_groups_and_never_shrink(model: TracedModel) -> None:
    hold = StepHold(TapeRecorder())
    _decode(model, hold)
    small = hold.bytes
    wide = _lanes(model, PROMPTS * 4)
    assert _decode(model, hold, wide) is not None
    large = hold.bytes
    assert large > 2 * small
    # Steps recorded over the small buffers were dropped.
    assert hold.recorded == 1
    assert _decode(model, hold) == _expected(model)
    assert hold.bytes == large
    assert hold.recorded == 2


@pytest.mark.slow
def test_recorded_steps_and_buffers_are_bounded() -> None:
    model = traced(tiny_neox(1, layers=2, hidden=16, heads=2, vocab=40))
    hold = StepHold(TapeRecorder())
    for size in range(MOST_STEPS + 3):
        chosen = DecodingSettings(WORTH_RECORDING + 1, 1.0 + size / 100, 0)
        lanes = _lanes(model, [[5]], WORTH_RECORDING + 1)
        assert _decode(model, hold, lanes, chosen) is not None
    assert hold.recorded == MOST_STEPS
    # Lanes that share prompts have another layout: its buffers take the place of the others.
    assert _decode(model, hold, lanes_sharing(model, [[5, 6]], [0, 0], NEW)) is not None
    assert hold.recorded == 1


def test_few_steps_are_not_worth_recording(model: TracedModel) -> None:
    recorder = TapeRecorder()
    chosen = DecodingSettings(WORTH_RECORDING, 1.3, 3)
    lanes = _lanes(model, new=WORTH_RECORDING)
    _decode(model, StepHold(recorder), lanes, chosen)
    assert (recorder.warmed, recorder.recorded) == (0, 0)
    one = DecodingSettings(1, 1.3, 3)
    assert _decode(model, StepHold(recorder), None, one) is None
    assert [tokens[:1] for tokens in _expected(model)] == decode_lanes(
        model, _lanes(model), one, step="static"
    )


def test_other_attention_is_decoded_dynamically_with_one_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    shape: dict[str, Any] = {"layers": 2, "hidden": 16, "heads": 2}
    models = {
        "model type gemma2 is not among": tiny_gemma(1, version=2, **shape),
        "sliding window of 5 is shorter": tiny_qwen(
            1, version=2, use_sliding_window=True, max_window_layers=1, sliding_window=5, **shape
        ),
    }
    for reason, module in models.items():
        other, hold = traced(module), StepHold(TapeRecorder())
        caplog.clear()
        with caplog.at_level(logging.WARNING, "statebridge.engine"):
            for _ in range(2):
                assert _decode(other, hold) is None
        (message,) = caplog.messages
        assert reason in message
        found = decode_lanes(other, _lanes(other), SETTINGS, step="static")
        assert found == decode_lanes(other, _lanes(other), SETTINGS, step="dynamic")


@pytest.mark.slow
def test_a_model_has_one_hold_until_its_weights_move(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(static_holds, "CudaRecorder", lambda _: TapeRecorder())
    monkeypatch.setattr(static_holds, "_HOLDS", WeakKeyDictionary())
    one, two = (traced(tiny_neox(seed, layers=2, hidden=16, heads=2)) for seed in (1, 2))
    hold = held_for(one)
    assert held_for(one.at_layer(1)) is hold
    assert held_for(two) is not hold
    _decode(one, hold)
    assert hold.bytes
    give_back()
    assert hold.bytes == 0
    assert held_for(one) is hold
    # A graph has the weights' addresses in it.
    one.module.to(torch.float64)
    assert held_for(one) is not hold
    assert len(static_holds._HOLDS) == 2
    del two
    gc.collect()
    assert len(static_holds._HOLDS) == 1


def test_buffers_that_leave_too_little_memory_are_dropped(
    model: TracedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold, device = StepHold(TapeRecorder()), torch.device("cuda")
    _decode(model, hold)
    size = hold.bytes
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (size // 2, 10 * size))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 3 * size)
    # Reserved and not allocated is free too: half, and half.
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 3 * size - size // 2 - 1)
    hold.leave_room(device)
    assert hold.bytes == size
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 3 * size - size // 4)
    hold.leave_room(device)
    assert hold.bytes == 0
