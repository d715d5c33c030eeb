"""The mistakes that hooks invite: padding, the off-by-one layer, the final norm, stale edits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import pytest
import torch

from statebridge.models.token_batch import TokenBatch
from statebridge.models.traced_model import TracedModel
from statebridge.translators import Translator
from tests.bridge.engine.tiny_experiment import (
    dataset_rows,
    engine_pair,
    neox_pair,
    random_translator,
    run_engine,
)
from tests.reference.oracle import DETERMINISTIC, OraclePair, OracleRow, run_cell
from tests.tiny_models import mixed_rows

CONDITIONS = (
    "no_inject",
    "additive",
    "replace",
    "scale_corrected",
    "best_alpha",
    "b_to_b_self_inject",
    "same_norm_random",
    "shuffled_translation",
    "zero_replacement",
)
# Float64: what a sum taken in another order loses is 1e-15 of states of size ten.
EXACT = {"rtol": 1e-11, "atol": 1e-11}
DECODING = {"max_new_tokens": 4}


def _oracle() -> OraclePair:
    return neox_pair(torch.float64)


def _receiver(layer: int | None = None) -> TracedModel:
    receiver = engine_pair(_oracle()).receiver
    return receiver if layer is None else receiver.at_layer(layer)


def _prompts(seed: int = 0) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randint(2, 421, (length,), generator=generator).tolist() for length in (1, 3, 8, 13)
    ]


@contextmanager
def _inputs_of(module: torch.nn.Module) -> Iterator[list[torch.Tensor]]:
    """Collect what a module is given first, by an independent torch hook."""
    seen: list[torch.Tensor] = []
    handle = module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
    try:
        yield seen
    finally:
        handle.remove()


@contextmanager
def _outputs_of(module: torch.nn.Module) -> Iterator[list[torch.Tensor]]:
    seen: list[torch.Tensor] = []
    handle = module.register_forward_hook(lambda _, __, output: seen.append(output.clone()))
    try:
        yield seen
    finally:
        handle.remove()


# ---------------------------------------------------------------- which states are captured


def test_states_with_padding_equal_states_without() -> None:
    receiver = _receiver()
    prompts = _prompts()
    batch = TokenBatch.pack(prompts, receiver.pad_id)
    assert batch.padded
    assert receiver.pad_id in receiver.end_ids, "the pad is to be a token like any other"
    together = receiver.capture(batch)
    for row, prompt in enumerate(prompts):
        alone = receiver.capture(TokenBatch.pack([prompt], receiver.pad_id))[0]
        torch.testing.assert_close(together[row, -len(prompt) :], alone, **EXACT)


def test_an_end_token_inside_a_prompt_is_not_taken_for_padding() -> None:
    receiver = _receiver()
    end = receiver.pad_id
    prompt = [end, 5, end, end, 6, end]
    states = receiver.capture(TokenBatch.pack([prompt, [5] * 9], end))
    hidden = receiver.module(torch.tensor([prompt]), output_hidden_states=True).hidden_states
    torch.testing.assert_close(states[0, -6:], hidden[receiver.layer + 1][0], **EXACT)


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_layer_l_is_the_output_of_block_l(layer: int) -> None:
    receiver = _receiver(layer)
    for prompt in _prompts():
        ids = torch.tensor([prompt])
        hidden = receiver.module(ids, output_hidden_states=True).hidden_states
        captured = receiver.capture(TokenBatch.pack([prompt], 0))
        assert torch.equal(captured, hidden[layer + 1])
        assert not torch.equal(captured, hidden[layer])


def test_the_last_block_is_captured_before_the_final_norm() -> None:
    receiver = _receiver(-1)
    norm = receiver.module.gpt_neox.final_layer_norm
    for prompt in _prompts():
        hidden = receiver.module(torch.tensor([prompt]), output_hidden_states=True).hidden_states
        captured = receiver.capture(TokenBatch.pack([prompt], 0))
        assert not torch.allclose(captured, hidden[-1], rtol=0.1)
        assert torch.equal(norm(captured), hidden[-1])


def test_a_later_pass_does_not_change_a_captured_state() -> None:
    receiver = _receiver()
    first = receiver.capture(TokenBatch.pack([[5, 6, 7]], 0))
    kept = first.clone()
    receiver.capture(TokenBatch.pack([[8, 9, 10]], 0))
    assert torch.equal(first, kept)


# ---------------------------------------------------------------- what is written, and where


WRITTEN_ROWS = mixed_rows(4, seed=7)


def _at(layer: int) -> OraclePair:
    oracle = _oracle()
    return OraclePair(oracle.sender, oracle.receiver, 2, layer, oracle.tokenizer)


def _map() -> Translator:
    return random_translator(24, 32, seed=42, dtype=torch.float64)


@cache
def _expected(layer: int) -> dict[tuple[str, str], OracleRow]:
    """The oracle's rows; both paths are held to them."""
    found = {}
    for condition in CONDITIONS:
        seed = None if condition in DETERMINISTIC else 42
        name = condition if seed is None else f"{condition}/seed{seed}"
        rows = run_cell(_at(layer), WRITTEN_ROWS, condition, seed, _map(), gold=False, **DECODING)
        found |= {(name, row.row_id): row for row in rows}
    return found


@pytest.mark.slow
@pytest.mark.parametrize("path", ["shared", "plain"])
@pytest.mark.parametrize("layer", [0, 2, 3])
def test_the_block_above_gets_written_states_in_prefill_only(layer: int, path: str) -> None:
    oracle, expected = _at(layer), _expected(layer)
    inner = oracle.receiver.gpt_neox
    above = inner.layers[layer + 1] if layer < 3 else inner.final_layer_norm
    with _inputs_of(above) as given, _outputs_of(inner.layers[layer]) as own:
        found = run_engine(
            engine_pair(oracle),
            dataset_rows(WRITTEN_ROWS),
            {42: _map()},
            rows_together=1,
            conditions=list(CONDITIONS),
            rng="published",
            decoding=DECODING,
            execution={"path": path},
        ).rows
    for key, row in expected.items():
        assert found[key].token_ids == row.token_ids, key
        if row.written is not None:
            assert any(_holds(states, row.written) for states in given), key
    # While decoding, each block's own output goes on as it is.
    steps = [states for states in given if states.shape[1] == 1]
    assert steps
    assert all(any(torch.equal(states, output) for output in own) for states in steps)


def _holds(states: torch.Tensor, written: torch.Tensor) -> bool:
    """Whether a lane of (lanes, positions, width) begins with the state written."""
    length = written.shape[1]
    if states.shape[1] < length:
        return False
    return bool(torch.isclose(states[:, :length], written, **EXACT).all(dim=2).all(dim=1).any())


@pytest.mark.slow
@pytest.mark.parametrize("path", ["shared", "plain"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_self_injection_writes_the_captured_state_bit_for_bit(
    path: str, dtype: torch.dtype
) -> None:
    oracle = neox_pair(dtype)
    pair = engine_pair(oracle)
    above = oracle.receiver.gpt_neox.layers[3]
    for row in dataset_rows(mixed_rows(4, seed=3)):
        seen: dict[str, list[torch.Tensor]] = {}
        for condition in ("no_inject", "b_to_b_self_inject"):
            with _inputs_of(above) as given:
                run_engine(
                    pair,
                    [row],
                    {},
                    rows_together=1,
                    conditions=[condition],
                    decoding=DECODING,
                    dtype=str(dtype).removeprefix("torch."),
                    execution={"path": path},
                )
            seen[condition] = given
        prompt = pair.receiver.tokenizer(f"Context: {row.context}\nQ: {row.question}\nA:")
        batch = TokenBatch.pack([prompt["input_ids"]], pair.receiver.pad_id)
        captured = pair.receiver.capture(batch)
        reached = [x for x in seen["b_to_b_self_inject"] if x.shape == captured.shape]
        assert reached
        assert all(torch.equal(x, captured) for x in reached)
        # Every state that goes up is one that goes up without an injection.
        for state in seen["b_to_b_self_inject"]:
            assert any(torch.equal(state, other) for other in seen["no_inject"])


# ---------------------------------------------------------------- after something went wrong


class _BrokenError(RuntimeError):
    pass


def _everything(receiver: TracedModel, prompt: list[int]) -> list[torch.Tensor]:
    """Return the model's results, through nnsight and without it."""
    ids = torch.tensor([prompt])
    with torch.no_grad():
        plain = receiver.module(ids).logits
        generated = receiver.module.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=6,
            do_sample=False,
            pad_token_id=0,
        )
    with torch.no_grad(), receiver.model.trace({"input_ids": ids}):
        traced = receiver.model.output.logits.save()
    return [plain, generated, traced, receiver.capture(TokenBatch.pack([prompt], 0))]


def _same(found: list[torch.Tensor], expected: list[torch.Tensor]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)


def _edit_and_fail_inside(receiver: TracedModel, ids: torch.Tensor) -> None:
    block = receiver.model.get(receiver.layer_path)
    with torch.no_grad(), receiver.model.trace({"input_ids": ids}):
        block.output = torch.zeros_like(block.output)
        raise _BrokenError("inside the trace")


def _edit_and_fail_above(receiver: TracedModel, ids: torch.Tensor) -> None:
    def fail(*_: Any) -> None:
        raise _BrokenError("in the block above")

    handle = receiver.module.gpt_neox.layers[receiver.layer + 1].register_forward_hook(fail)
    try:
        with torch.no_grad(), receiver.model.trace({"input_ids": ids}):
            block = receiver.model.get(receiver.layer_path)
            block.output = torch.zeros_like(block.output)
            logits = receiver.model.output.logits.save()
        assert logits is not None
    finally:
        handle.remove()


def _edit_with_a_wrong_shape(receiver: TracedModel, ids: torch.Tensor) -> None:
    with torch.no_grad(), receiver.model.generate({"input_ids": ids}, max_new_tokens=2) as tracer:
        block = receiver.model.get(receiver.layer_path)
        block.output = torch.zeros((1, 2, 3), dtype=torch.float64)
        result = tracer.result.save()
    assert result is not None


def _skip_and_fail(receiver: TracedModel, ids: torch.Tensor) -> None:
    state = torch.zeros((1, ids.shape[1], 32), dtype=torch.float64)
    with torch.no_grad(), receiver.model.trace({"input_ids": ids}):
        for path in receiver.block_paths[: receiver.layer + 1]:
            receiver.model.get(path).skip(state)
        logits = receiver.model.output.logits.save()
        raise _BrokenError("after the skip")
    assert logits is not None


@pytest.mark.parametrize(
    ("fail", "words"),
    [
        (_edit_and_fail_inside, "inside the trace"),
        (_edit_and_fail_above, "in the block above"),
        (_edit_with_a_wrong_shape, "shape|size"),
        (_skip_and_fail, "after the skip"),
    ],
)
def test_no_trace_of_an_edit_after_an_exception(fail: Any, words: str) -> None:
    receiver = _receiver()
    prompt = _prompts()[2]
    before = _everything(receiver, prompt)
    for _ in range(2):
        with pytest.raises(Exception, match=words):
            fail(receiver, torch.tensor([prompt]))
        _same(_everything(receiver, prompt), before)


@pytest.mark.parametrize("path", ["shared", "plain"])
def test_a_run_that_broke_off_leaves_the_next_baseline_as_it_was(path: str) -> None:
    oracle = _oracle()
    pair = engine_pair(oracle)
    rows = dataset_rows(mixed_rows(5, seed=1))
    fields: dict[str, Any] = {"decoding": DECODING, "execution": {"path": path}}
    before = run_engine(pair, rows, {}, conditions=["no_inject"], **fields).rows
    calls = [0]

    def fail(*_: Any) -> None:
        calls[0] += 1
        if calls[0] == 3:
            raise _BrokenError("in the middle of a group")

    handle = oracle.receiver.gpt_neox.layers[3].register_forward_pre_hook(fail)
    translators = {42: random_translator(24, 32, seed=42, dtype=torch.float64)}
    try:
        with pytest.raises(Exception, match="in the middle of a group"):
            run_engine(
                pair, rows, translators, conditions=["replace", "zero_replacement"], **fields
            )
    finally:
        handle.remove()
    assert calls[0] == 3
    assert run_engine(pair, rows, {}, conditions=["no_inject"], **fields).rows == before
