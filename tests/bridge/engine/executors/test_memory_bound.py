"""Hidden-state memory is that of a group: it does not grow with the rows."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

from statebridge.engine.executors.plain_path import PlainPath
from statebridge.engine.executors.shared_path import SharedPath
from statebridge.records import DatasetRow
from statebridge.runs.plan import Group
from tests.bridge.engine.tiny_experiment import (
    engine_pair,
    neox_pair,
    random_translator,
    run_engine,
)
from tests.bridge.translators.live_tensors import PeakBytes

CONDITIONS = ["no_inject", "same_norm_random", "shuffled_translation"]
CONTEXTS = ("Bob works in Tokyo near the city.", "Zara lives in London near the city.")
ROWS_TOGETHER = 4


class LiveBytes(PeakBytes):
    def now(self) -> int:
        """Return the bytes alive once waiting garbage (a trace's cycles) is collected."""
        gc.collect()
        return sum(self._alive.values())


@dataclass
class Measured:
    peak: int = 0
    between_groups: list[int] = field(default_factory=list)


@pytest.fixture(autouse=True)
def _quick_collections() -> Iterator[None]:
    gc.collect()
    gc.freeze()  # older objects are not gone through at every collection
    yield
    gc.unfreeze()


def _measure(monkeypatch: pytest.MonkeyPatch, count: int, path: str, rng: str) -> Measured:
    measured, live = Measured(), LiveBytes()
    runner = SharedPath if path == "shared" else PlainPath
    run: Any = runner.run

    def noted(self: Any, group: Group) -> Any:
        measured.between_groups.append(live.now())
        return run(self, group)

    pair = engine_pair(neox_pair())
    rows = [
        # Prompts of two lengths only: every group is as wide as any other.
        DatasetRow(f"row_{i:04d}", CONTEXTS[i % 2], "Which city is Mei in?", "Peru")
        for i in range(count)
    ]
    with monkeypatch.context() as patch, live:
        patch.setattr(runner, "run", noted)
        engine_run = run_engine(
            pair,
            rows,
            {42: random_translator(24, 32, seed=42)},
            rows_together=ROWS_TOGETHER,
            conditions=CONDITIONS,
            rng=rng,
            execution={"path": path},
            decoding={"max_new_tokens": 2},
        )
    assert len(engine_run.rows) == count * len(CONDITIONS)
    measured.peak = live.bytes
    return measured


@pytest.mark.slow
@pytest.mark.parametrize(("path", "rng"), [("shared", "published"), ("plain", "per-row")])
def test_four_times_the_rows_take_no_more_memory(
    path: str, rng: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = _measure(monkeypatch, 9, path, rng)
    many = _measure(monkeypatch, 36, path, rng)
    assert len(many.between_groups) > len(few.between_groups) > 2
    # Between groups the weights are held and nothing else: not a byte for a row that ran.
    assert max(many.between_groups) == max(few.between_groups)
    # Within one, what a trace leaves waits for the collector: by chance, so not to the byte.
    assert many.peak <= 1.5 * few.peak


def test_what_is_counted_is_what_is_alive() -> None:
    with LiveBytes() as live:
        kept = [torch.zeros(1000) for _ in range(10)]
        assert live.now() == 40_000
        del kept
        assert live.now() == 0
        torch.zeros(1000)
    assert 40_000 <= live.bytes < 50_000
