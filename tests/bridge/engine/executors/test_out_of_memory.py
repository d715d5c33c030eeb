"""Memory that runs out inside a forward pass: halved, and nothing in the answers shows it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import pytest
import torch

from statebridge.channels import states
from statebridge.engine.executors.memory import halving, is_out_of_memory
from statebridge.errors import EnvironmentFault
from statebridge.records import LaneResult
from tests.bridge.engine.tiny_experiment import (
    dataset_rows,
    engine_pair,
    neox_pair,
    random_translator,
    run_engine,
)
from tests.tiny_models import mixed_rows

REFUSALS: dict[str, Callable[[], Exception]] = {
    "gpu": lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    "cpu": lambda: RuntimeError(
        "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate "
        "memory: you tried to allocate 8589934592 bytes. Error code 12 (Cannot allocate memory)"
    ),
    "python": MemoryError,
}
ROWS = dataset_rows(mixed_rows(7, seed=2))
FIELDS: dict[str, Any] = {
    "conditions": ["no_inject", "nl_relay", "scale_corrected", "same_norm_random"],
    "decoding": {"max_new_tokens": 5, "relay_max_new_tokens": 6},
    "rng": "published",
}
PAIR = neox_pair()


def _run(path: str) -> dict[tuple[str, str], LaneResult]:
    translators = {42: random_translator(24, 32, seed=42)}
    return run_engine(engine_pair(PAIR), ROWS, translators, execution={"path": path}, **FIELDS).rows


@cache
def _undisturbed(path: str) -> dict[tuple[str, str], LaneResult]:
    return _run(path)


@contextmanager
def _refusing(block: torch.nn.Module, refuse: Callable[[torch.Tensor], None]) -> Iterator[None]:
    handle = block.register_forward_pre_hook(lambda _, inputs: refuse(inputs[0]))
    try:
        yield
    finally:
        handle.remove()


def _more_than(limit: int, refusal: Callable[[], Exception], seen: list[int]) -> Any:
    def refuse(states: torch.Tensor) -> None:
        if states.shape[0] > limit:
            seen.append(states.shape[0])
            raise refusal()

    return refuse


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "side", "kind"),
    [
        ("shared", "receiver", "gpu"),
        ("shared", "receiver", "cpu"),
        ("shared", "sender", "python"),
        ("plain", "receiver", "cpu"),
        ("plain", "sender", "gpu"),
    ],
)
def test_groups_are_halved_until_they_fit(path: str, side: str, kind: str) -> None:
    expected = _undisturbed(path)
    seen: list[int] = []
    block = getattr(PAIR, side).gpt_neox.layers[1]
    # The plain path's groups are small: one prompt length each.
    with _refusing(block, _more_than(3 if path == "shared" else 1, REFUSALS[kind], seen)):
        found = _run(path)
    assert seen, "memory never ran out, so nothing was tested"
    assert list(found) == list(expected), "lanes are committed in another order"
    for key, row in found.items():
        assert row.token_ids == expected[key].token_ids, key
        assert row.relay == expected[key].relay
        assert row.gold_rank == expected[key].gold_rank
        # Another batch size adds float32 numbers in another order.
        assert row.gold_logprob == pytest.approx(expected[key].gold_logprob, rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("path", ["shared", "plain"])
def test_one_row_that_does_not_fit_is_an_error_of_one_line(path: str) -> None:
    block = PAIR.receiver.gpt_neox.layers[3]
    with (
        _refusing(block, _more_than(0, REFUSALS["gpu"], [])),
        pytest.raises(EnvironmentFault, match="out of memory with a single row") as caught,
    ):
        _run(path)
    assert "\n" not in str(caught.value)
    # And nothing of the failed attempts is left in the model.
    assert _run(path) == _undisturbed(path)


def test_a_lane_that_does_not_fit_gets_a_smaller_group(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows_below: list[int] = []
    refused: list[int] = []
    capture = states.capture_sender

    def note(workload: Any, cells: Any, rows: Sequence[int]) -> Any:
        rows_below.append(len(rows))
        return capture(workload, cells, rows)

    def refuse(_: torch.Tensor) -> None:
        # What the lower pass keeps for more than two rows leaves no room for any lane.
        if rows_below[-1] > 2:
            refused.append(rows_below[-1])
            raise REFUSALS["gpu"]()

    fields = {**FIELDS, "conditions": ["no_inject", "scale_corrected"], "decode": False}
    translators = {42: random_translator(24, 32, seed=42)}
    expected = run_engine(engine_pair(PAIR), ROWS, translators, **fields).rows
    monkeypatch.setattr(states, "capture_sender", note)
    with _refusing(PAIR.receiver.gpt_neox.layers[PAIR.receiver_layer + 1], refuse):
        found = run_engine(engine_pair(PAIR), ROWS, translators, **fields).rows
    assert max(refused) == len(ROWS)
    assert {key: row.gold_rank for key, row in found.items()} == {
        key: row.gold_rank for key, row in expected.items()
    }


def test_other_errors_are_not_taken_for_memory() -> None:
    for error in (RuntimeError("CUDA error: device-side assert"), ValueError("memory"), KeyError()):
        assert not is_out_of_memory(error)
    calls: list[Sequence[int]] = []

    def work(items: Sequence[int]) -> list[int]:
        calls.append(items)
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        halving(work, [1, 2, 3], "row")
    assert calls == [[1, 2, 3]]


def test_halving_keeps_the_order_and_works_on_each_item_once() -> None:
    done: list[int] = []

    def work(items: Sequence[int]) -> list[int]:
        if len(items) > 2:
            raise MemoryError
        done.extend(items)
        return list(items)

    assert halving(work, range(11), "row") == list(range(11)) == done
