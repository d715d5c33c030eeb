"""The estimated memory of a lane; float32 stays float32."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from statebridge.engine.cuda_graphs import hold
from statebridge.engine.cuda_graphs.hold import StepHold
from statebridge.engine.decoding.steps import decoding_step
from statebridge.engine.executors.shared_path import SharedPath
from statebridge.engine.planning import groups
from statebridge.engine.planning.groups import choose_max_lanes, lane_bytes
from tests.bridge.engine.tiny_experiment import (
    dataset_rows,
    engine_pair,
    neox_pair,
    random_translator,
    run_engine,
)
from tests.tiny_models import mixed_rows


def _workload(conditions: list[str], rows: int = 2, **fields: Any) -> Any:
    return run_engine(
        engine_pair(neox_pair()),
        dataset_rows(mixed_rows(rows, seed=1)),
        {42: random_translator(24, 32, seed=42)},
        conditions=conditions,
        decoding={"max_new_tokens": 3},
        **fields,
    ).workload


def test_a_lane_that_shares_its_prompt_takes_less(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = _workload(["no_inject"])
    shared = _workload(["no_inject", "replace", "additive", "zero_replacement"])
    prompt = max(shared.plan.prompts.lengths)
    # Keys and values of three of four blocks, 32 wide, float32, three quarters of the prompt.
    spared = 2 * 3 * 32 * 4 * prompt * 3 / 4
    assert lane_bytes(alone) - lane_bytes(shared) == pytest.approx(spared, abs=1)
    monkeypatch.setattr(groups, "attends_by_lane", lambda _: False)
    assert lane_bytes(alone) == lane_bytes(shared)


def test_buffers_of_a_static_step_count(monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[StepHold] = []

    def kept(recorder: None) -> StepHold:
        held.append(StepHold(recorder))
        return held[-1]

    monkeypatch.setattr(hold, "StepHold", kept)
    conditions = ["no_inject", "replace", "additive", "zero_replacement"]
    with decoding_step("static"):
        workload = _workload(conditions, rows=8)
        static = lane_bytes(workload)
    dynamic = lane_bytes(workload)
    # The dynamic step has a copy of one block's entries where lanes retire.
    retired = 2 * 32 * 4 * (max(workload.plan.prompts.lengths) + 3)
    lanes = 8 * len(conditions)
    assert static - dynamic + retired >= held[0].bytes / lanes
    # An upper estimate, but one of this size.
    assert static - dynamic + retired <= 2 * held[0].bytes / lanes
    # Nothing is decoded where answers alone are scored.
    with decoding_step("static"):
        assert lane_bytes(_workload(conditions, rows=8, decode=False)) == dynamic


def test_groups_fit_the_memory_that_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    workload = _workload(["no_inject"])
    each = lane_bytes(workload)
    for free, lanes in ((20.5 * each, 10), (each / 2, 1), (1e15, groups.CPU_LANES_SMALL)):
        monkeypatch.setattr(groups, "free_bytes", lambda _, free=free: int(free))
        assert choose_max_lanes(workload) == lanes


def test_a_group_on_a_cpu_takes_no_longer_than_it_should(monkeypatch: pytest.MonkeyPatch) -> None:
    workload = _workload(["no_inject"])
    monkeypatch.setattr(groups, "free_bytes", lambda _: 10**15)
    weights = sum(part.numel() for part in workload.pair.receiver.module.parameters())
    each = groups.lane_operations(workload, weights)
    prompt = max(workload.plan.prompts.lengths)
    assert each == 2 * weights * (prompt / 2 + 3)
    for operations, lanes in ((7.5 * each, 7), (each / 2, 1), (1e18, groups.CPU_LANES_SMALL)):
        monkeypatch.setattr(groups, "CPU_GROUP_OPERATIONS", operations)
        assert choose_max_lanes(workload) == lanes


@pytest.fixture
def _shortened() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    yield
    torch.set_float32_matmul_precision(before)


@pytest.mark.usefixtures("_shortened")
def test_the_shared_path_turns_shortened_float32_products_off() -> None:
    workload = _workload(["no_inject"])
    torch.set_float32_matmul_precision("medium")
    SharedPath(workload)
    assert torch.get_float32_matmul_precision() == "highest"
