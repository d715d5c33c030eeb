"""Static steps, run and recorded, give the tokens of the dynamic step and of the oracle."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from statebridge.engine.cuda_graphs import decode
from statebridge.engine.cuda_graphs.decode import decode_static
from statebridge.engine.cuda_graphs.hold import WARM_UP, StepHold
from statebridge.engine.decoding.lanes import DecodingSettings, Prefilled, prefill
from statebridge.engine.decoding.sampling import Draws
from statebridge.engine.decoding.steps import decode_lanes, decoding_step
from statebridge.models.token_batch import TokenBatch
from statebridge.models.traced_model import TracedModel
from tests.bridge.engine.cuda_graphs.taped_steps import TapeRecorder, lanes_sharing, traced
from tests.bridge.engine.tiny_experiment import (
    dataset_rows,
    engine_pair,
    llama_pair,
    neox_pair,
    random_translator,
    run_engine,
)
from tests.reference.decoding import generate
from tests.reference.oracle import OracleRow, run_cell
from tests.tiny_models import mixed_rows, tiny_gemma, tiny_gpt2, tiny_llama, tiny_neox, tiny_qwen

NEW = 20
SETTINGS = DecodingSettings(NEW, 1.3, 3)
LONG: dict[str, Any] = {"sliding_window": 512}


@cache
def _model(family: str) -> TracedModel:
    shape: dict[str, Any] = {"layers": 3, "hidden": 24, "heads": 4}
    few: dict[str, Any] = {"vocab": 40, "end_share": 0.7}
    made: Mapping[str, Any] = {
        "neox": lambda: tiny_neox(1, **shape, **few),
        "llama": lambda: tiny_llama(2, kv_heads=2, **shape, **few),
        "gpt2": lambda: tiny_gpt2(3, **shape, **few),
        # Not with the attention of lanes: their windows, though longer than any text here.
        "gemma3": lambda: tiny_gemma(4, version=3, **LONG, **shape),
        "qwen2": lambda: tiny_qwen(
            5, version=2, use_sliding_window=True, max_window_layers=1, **LONG, **shape
        ),
    }
    return traced(made[family]())


def _prompts(count: int, lengths: tuple[int, int], seed: int = 0) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=generator))

    return [[draw(1, 39) for _ in range(draw(*lengths))] for _ in range(count)]


def _taped(
    hold: StepHold,
    model: TracedModel,
    lanes: Prefilled,
    chosen: DecodingSettings = SETTINGS,
    draws: Draws | None = None,
    look_every: int = 1,
) -> list[list[int]]:
    found = decode_static(model, lanes, chosen, draws, look_every, hold)
    assert found is not None
    return found


@pytest.mark.slow
@pytest.mark.parametrize("lengths", [(6, 6), (1, 9)], ids=["one length", "padded"])
@pytest.mark.parametrize("family", ["neox", "llama", "gpt2", "gemma3", "qwen2"])
def test_every_family_equals_generate_row_by_row(family: str, lengths: tuple[int, int]) -> None:
    model, prompts = _model(family), _prompts(9, lengths)
    recorder = TapeRecorder()

    def lanes() -> Prefilled:
        return prefill(model, TokenBatch.pack(prompts, model.pad_id), NEW)

    expected = [
        generate(
            model.module,
            prompt,
            end=0,
            max_new_tokens=NEW,
            repetition_penalty=1.3,
            no_repeat_ngram_size=3,
        )
        for prompt in prompts
    ]
    assert decode_lanes(model, lanes(), SETTINGS, step="dynamic") == expected
    assert decode_lanes(model, lanes(), SETTINGS, step="static") == expected
    assert _taped(StepHold(recorder), model, lanes()) == expected
    assert recorder.played


@pytest.mark.slow
@pytest.mark.parametrize("look_every", [1, 5, 50])
def test_lanes_that_end_leave_and_the_others_are_unchanged(look_every: int) -> None:
    model, prompts = _model("gpt2"), _prompts(23, (1, 7), seed=3)
    chosen, recorder = DecodingSettings(48, 1.1, 0), TapeRecorder()

    def lanes() -> Prefilled:
        return prefill(model, TokenBatch.pack(prompts, model.pad_id), 48)

    expected = decode_lanes(model, lanes(), chosen, step="dynamic")
    assert len(set(map(len, expected))) > 3
    assert _taped(StepHold(recorder), model, lanes(), chosen, None, look_every) == expected
    # Several sizes were recorded, or nothing was retired.
    assert (recorder.recorded > 1) == (look_every < 50)


@pytest.mark.slow
@settings(max_examples=20)
@given(data=st.data())
def test_random_groups_on_one_set_of_buffers_equal_dynamic(data: st.DataObject) -> None:
    draw = data.draw
    family = draw(st.sampled_from(["neox", "gpt2"]))
    model, hold = _exact(family)
    ids = st.lists(st.integers(0, 11), min_size=1, max_size=14)
    prompts = draw(st.lists(ids, min_size=1, max_size=5))
    new = draw(st.integers(2, 14))
    sampled = draw(st.booleans())
    rows = draw(st.lists(st.integers(0, len(prompts) - 1), min_size=1, max_size=11))
    shared = draw(st.booleans())
    penalty = draw(st.sampled_from([1.0, 0.4, 1.3]))
    chosen = DecodingSettings(new, penalty, draw(st.integers(0, 4)))
    count = len(rows) if shared else len(prompts)
    uniforms = torch.rand(
        (count, new), dtype=torch.float64, generator=torch.Generator().manual_seed(new)
    )
    draws = Draws(1.1, 0.9, uniforms) if sampled else None

    def lanes() -> Prefilled:
        if shared:
            return lanes_sharing(model, prompts, rows, new)
        return prefill(model, TokenBatch.pack(prompts, model.pad_id), new)

    expected = decode_lanes(model, lanes(), chosen, draws=draws)
    # Nothing of earlier groups may be used: NaN would show it.
    for buffer in () if hold._lanes is None else hold._lanes.tensors():
        if buffer.is_floating_point():
            buffer.fill_(torch.nan)
    look_every = draw(st.integers(1, 6))
    assert _taped(hold, model, lanes(), chosen, draws, look_every) == expected


@cache
def _exact(family: str) -> tuple[TracedModel, StepHold]:
    build = {"neox": tiny_neox, "gpt2": tiny_gpt2}[family]
    module = build(11, layers=3, hidden=16, heads=2, vocab=12, end_share=0.6)
    # Float64: near ties do not depend on how many keys a sum is taken over.
    return traced(module.to(torch.float64)), StepHold(TapeRecorder())


def test_buffers_and_recorded_steps_serve_the_next_groups() -> None:
    model, recorder = _model("neox"), TapeRecorder()
    hold = StepHold(recorder)
    endless = DecodingSettings(NEW, 1.0, 2)
    for seed, count in enumerate((9, 10, 9)):
        prompts = _prompts(count, (2, 9), seed)

        def lanes(prompts: list[list[int]] = prompts) -> Prefilled:
            return prefill(model, TokenBatch.pack(prompts, model.pad_id), NEW)

        found = _taped(hold, model, lanes(), endless, None, 50)
        assert found == decode_lanes(model, lanes(), endless)
    # One shape: 10 lanes, 32 positions. The first group warmed and recorded it.
    assert (recorder.warmed, recorder.recorded) == (WARM_UP, 1)
    assert recorder.played == 3 * (NEW - 1) - WARM_UP


# ---------------------------------------------------------------- through the engine


@pytest.fixture
def stepped(request: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Decode everything in static steps; yield the lanes of each group."""
    holds: dict[int, StepHold] = {}
    groups: list[int] = []

    def noted(model: TracedModel, lanes: Prefilled, *more: Any) -> Any:
        *settings, hold = more
        if request.param == "taped":
            hold = holds.setdefault(id(model.module), StepHold(TapeRecorder()))
        groups.append(lanes.logits.shape[0])
        found = decode_static(model, lanes, *settings, hold)
        assert found is not None
        return found

    monkeypatch.setattr(decode, "decode_static", noted)
    with decoding_step("static"):
        yield groups
    assert groups


CELLS = (("no_inject", None), ("nl_relay", None), ("replace", 42), ("same_norm_random", 42))
ROWS, LENGTHS = mixed_rows(7, seed=5), {"max_new_tokens": 12, "relay_max_new_tokens": 6}
PAIRS = {"neox": neox_pair, "llama": llama_pair}


@cache
def _expected(kind: str) -> dict[tuple[str, str], OracleRow]:
    pair = PAIRS[kind]()
    translator = _translator(kind)
    found = {}
    for condition, seed in CELLS:
        name = condition if seed is None else f"{condition}/seed{seed}"
        for row in run_cell(pair, ROWS, condition, seed, translator, gold=False, **LENGTHS):
            found[name, row.row_id] = row
    return found


def _translator(kind: str) -> Any:
    pair = PAIRS[kind]()
    widths = pair.sender.config.hidden_size, pair.receiver.config.hidden_size
    return random_translator(*widths, seed=42)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "rows_together", "stepped"),
    [("neox", 3, "taped"), ("llama", 64, "static")],
    indirect=["stepped"],
)
def test_the_published_conditions_equal_the_oracle(
    kind: str, rows_together: int, stepped: list[int]
) -> None:
    run = run_engine(
        engine_pair(PAIRS[kind]()),
        dataset_rows(ROWS),
        {42: _translator(kind)},
        rows_together=rows_together,
        conditions=[name for name, _ in CELLS],
        rng="published",
        decoding=LENGTHS,
    )
    expected = _expected(kind)
    assert run.rows.keys() == expected.keys()
    for key, row in expected.items():
        assert run.rows[key].token_ids == row.token_ids, key
        assert run.rows[key].relay == row.relay
    # Some end and some reach the limit, or retired lanes would not be tested.
    assert {len(row.token_ids or ()) < 12 for row in expected.values()} == {True, False}
    assert len(stepped) > 1


@pytest.mark.parametrize("stepped", ["taped"], indirect=True)
def test_sampled_texts_are_those_of_the_dynamic_step(stepped: list[int]) -> None:
    fields: dict[str, Any] = {
        "conditions": ["question_only", "skyline", "private_last_zero"],
        "seeds": [42, 7],
        "decoding": {"max_new_tokens": 12, "sample": {"temperature": 0.9, "top_p": 0.8}},
    }
    rows, pair = dataset_rows(mixed_rows(6, seed=4)), engine_pair(neox_pair())
    found = run_engine(pair, rows, {}, **fields).rows
    count = len(stepped)
    with decoding_step("dynamic"):
        expected = run_engine(pair, rows, {}, **fields).rows
    assert len(stepped) == count
    assert {key: row.token_ids for key, row in found.items()} == {
        key: row.token_ids for key, row in expected.items()
    }


def test_half_precision_starts_alike_and_runs_to_its_end() -> None:
    # Rounding may turn a near tie over later on: the keys are as many as the buffer holds.
    model = traced(tiny_neox(1, layers=3, hidden=24, heads=4).to(torch.bfloat16))
    prompts = _prompts(6, (3, 9))

    def lanes() -> Prefilled:
        return prefill(model, TokenBatch.pack(prompts, model.pad_id), NEW)

    recorder = TapeRecorder()
    found = _taped(StepHold(recorder), model, lanes())
    dynamic = decode_lanes(model, lanes(), SETTINGS)
    assert recorder.played
    assert [tokens[0] for tokens in found] == [tokens[0] for tokens in dynamic]
    assert found == decode_lanes(model, lanes(), SETTINGS, step="static")
    assert all(0 < len(tokens) <= NEW for tokens in found)


def test_a_graph_needs_a_gpu() -> None:
    model = _model("neox")
    lanes = prefill(model, TokenBatch.pack([[5, 6]], model.pad_id), 4)
    with pytest.raises(ValueError, match="cannot be captured on cpu"):
        decode_lanes(model, lanes, DecodingSettings(4, 1.0, 0), step="graph")
