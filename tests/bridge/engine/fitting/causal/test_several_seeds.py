"""Maps of several seeds trained in one pass for each step: each is as if it were trained alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from statebridge.engine.fitting import causal_training
from statebridge.engine.fitting.causal_loss import RowLosses
from statebridge.engine.fitting.causal_training import train_seeds
from statebridge.engine.fitting.frozen_rows import FrozenBatch, FrozenRows
from statebridge.engine.fitting.training import Asked, MeanLosses, Trained, Training, in_step
from statebridge.errors import EnvironmentFault
from statebridge.models.pair import Pair
from statebridge.translators import Translator
from tests.bridge.engine.fitting.causal.causal_experiment import (
    causal_of,
    frozen,
    rows_of,
    started,
    with_settings,
    write_rows,
)
from tests.bridge.engine.tiny_experiment import engine_pair, neox_pair

SEEDS = (1, 2)


class Passes(list[int]):
    """Rows of each pass through the receiver; one of more than `most` has no memory."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, most: int = 1000) -> None:
        super().__init__()
        real = causal_training.row_losses

        def counted(receiver: Any, condition: Any, rows: FrozenBatch, translate: Any) -> Any:
            if len(rows.answers) > most:
                raise torch.OutOfMemoryError
            self.append(len(rows.answers))
            return real(receiver, condition, rows, translate)

        monkeypatch.setattr(causal_training, "row_losses", counted)


def trained(
    rows: FrozenRows, start: Translator, seeds: Sequence[int] = SEEDS
) -> dict[int, Trained]:
    return train_seeds(rows, dict.fromkeys(seeds, start))


def test_seeds_are_trained_as_alone_in_fewer_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = engine_pair(neox_pair(torch.float64))
    path = write_rows(tmp_path / "rows.jsonl", rows_of(12))
    start = started(pair)
    with frozen(pair, causal_of(path, epochs=2)) as rows:
        passes = Passes(monkeypatch)
        together = trained(rows, start)
        assert passes == [6, 8, 8, 4, 6, 8, 8, 4, 6]  # 3 rows validated, 9 trained, of each seed
        alone = {seed: trained(rows, start, [seed])[seed] for seed in SEEDS}
        monkeypatch.undo()
        passes = Passes(monkeypatch, most=5)
        halved = trained(rows, start)
        assert max(passes) == 4
    for found in (together, halved):
        for seed, (translator, record) in alone.items():
            # Trained in float64, whose rounding Adam's steps make no larger than this.
            losses = [epoch.validation_loss for epoch in record.epochs]
            assert [e.validation_loss for e in found[seed][1].epochs] == pytest.approx(losses, 1e-9)
            weights = found[seed][0].weights()
            torch.testing.assert_close(weights, translator.weights(), atol=1e-6, rtol=1e-6)
    assert not torch.equal(alone[1][0].weights()["weight"], alone[2][0].weights()["weight"])


class Ends(Training[FrozenRows]):
    """A training that asks so many times, and notes who asked with it."""

    def __init__(self, asks: int) -> None:
        self.asks, self.beside = asks, list[int]()

    def run(self) -> Any:
        for _ in range(self.asks):
            self.beside.append(int((yield Asked(self, [0], learns=False)).loss))
        return self.asks, None

    @staticmethod
    def row_losses(asked: Sequence[Asked]) -> list[RowLosses]:
        return [RowLosses(torch.tensor(len(asked)), torch.tensor(0))] * len(asked)

    def mean_losses(self, losses: RowLosses) -> MeanLosses:
        return MeanLosses(losses.gold, losses.gold, losses.divergence)


def test_a_seed_that_ends_early_leaves_the_others_in_step() -> None:
    three = [Ends(2), Ends(4), Ends(3)]
    assert [found for found, _ in in_step(three, lambda: None)] == [2, 4, 3]
    assert [each.beside for each in three] == [[3, 3], [3, 3, 2, 1], [3, 3, 2]]


def test_a_loss_is_the_same_to_rounding_beside_any_rows(rows: FrozenRows) -> None:
    batches = [rows.batch(chosen) for chosen in ([3], [3, 0, 7, 11, 2])]
    assert rows.one_shape
    assert batches[0].whole.ids.shape[1] == batches[1].whole.ids.shape[1]
    assert batches[0].whole.padded
    kept = [batch.before for batch in batches]
    assert kept[0] is not None
    assert kept[1] is not None
    shapes = [each.layers[0][0].shape[2] for each in kept if each is not None]
    assert shapes[0] == shapes[1]
    assert torch.equal(batches[0].states[0], batches[1].states[0])
    assert torch.equal(kept[0].layers[-1][0][0], kept[1].layers[-1][0][0])


@pytest.mark.parametrize("why", ["written everywhere", "one row is long", "nothing is kept"])
def test_rows_of_many_shapes_are_trained_seed_by_seed(
    why: str, tmp_path: Path, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = rows_of(6)
    if why == "one row is long":
        shown[0] = replace(shown[0], question=shown[0].question + " and why" * 40)
    path = write_rows(tmp_path / "rows.jsonl", shown)
    if why == "nothing is kept":
        monkeypatch.setattr("statebridge.engine.fitting.kept_prefixes.KEPT_BYTES", 0)
    through = "replace" if why == "written everywhere" else "private_last"
    passes = Passes(monkeypatch)
    with frozen(pair, causal_of(path, through, epochs=1)) as rows:
        assert not rows.one_shape
        trained(rows, started(pair))
    assert max(passes) == 4


def test_out_of_memory_names_the_setting(
    rows: FrozenRows, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    Passes(monkeypatch, most=3)
    with pytest.raises(
        EnvironmentFault, match=r"4 rows at once; lower causal\.training\.batch_rows"
    ):
        trained(with_settings(rows, epochs=1), started(pair))
