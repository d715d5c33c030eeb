from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

import pytest
import torch
from transformers.optimization import get_linear_schedule_with_warmup

from statebridge.errors import NumericError, TranslatorError
from statebridge.experiment.translator_settings import (
    TrainingSettings,
)
from statebridge.results.translator_card import TrainingRecord
from statebridge.translators.fit import Fit
from statebridge.translators.optimiser import learning_rate_factor
from statebridge.translators.position_store import PositionStore
from statebridge.translators.quality import measure_quality, target_means
from statebridge.translators.training import (
    train_translator,
    validation_start,
)
from tests.bridge.translators.refusal import refused
from tests.bridge.translators.synthetic_states import OF_STATES, linear_pair, normal

QUICK = TrainingSettings(epochs=4, warmup_steps=5, learning_rate=0.01)


@pytest.fixture(scope="module")
def store() -> Iterator[PositionStore]:
    with PositionStore.from_batches([linear_pair(205)]) as positions:
        yield positions


def record_of(fit: Fit) -> TrainingRecord:
    assert isinstance(fit.record, TrainingRecord)
    return fit.record


def test_defaults_are_the_published_settings() -> None:
    settings = TrainingSettings()
    assert settings.learning_rate == 1e-4
    assert settings.warmup_steps == 100
    assert settings.epochs == 30
    assert settings.batch_size == 32
    assert settings.max_gradient_norm == 1
    assert settings.validation_fraction == 0.1
    assert settings.decay == "linear"


@pytest.mark.parametrize(
    ("positions", "fraction", "start"),
    [
        (10, 0.1, 9),
        (19, 0.1, 18),
        (20, 0.1, 18),
        (30, 0.1, 27),
        (100, 0.29, 71),  # 100 · 0.29 is 28.999… in binary
        (1000, 0.1, 900),
        (3, 0.5, 2),
        (640_000, 0.1, 576_000),
        (123_456_789, 0.1, 111_111_111),
    ],
)
def test_last_tenth_is_split_off_exactly(positions: int, fraction: float, start: int) -> None:
    assert validation_start(positions, fraction) == start


def test_too_few_positions_to_split() -> None:
    with refused(TranslatorError, "9 corpus positions", "0.1", "0 to validate"):
        validation_start(9, 0.1)
    with (
        PositionStore.from_batches([linear_pair(9)]) as few,
        refused(TranslatorError, "9 corpus positions"),
    ):
        train_translator(few)


@pytest.mark.parametrize(("warmup", "total"), [(100, 1000), (0, 7), (5, 6), (1, 50)])
def test_learning_rate_is_that_of_transformers(warmup: int, total: int) -> None:
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
    scheduler = get_linear_schedule_with_warmup(optimiser, warmup, total)
    for step in range(total):
        assert learning_rate_factor(step, warmup, total) == scheduler.get_last_lr()[0]
        optimiser.step()
        scheduler.step()
    assert learning_rate_factor(total, warmup, total) == 0


def test_learning_rate_by_hand() -> None:
    factors = [learning_rate_factor(step, 4, 12) for step in range(12)]
    assert factors == [0, 0.25, 0.5, 0.75, 1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8]
    constant = [learning_rate_factor(step, 2, 5, linear_decay=False) for step in range(5)]
    assert constant == [0, 0.5, 1, 1, 1]


def plain_training(
    sender: torch.Tensor, receiver: torch.Tensor, settings: TrainingSettings, seed: int
) -> tuple[list[float], dict[int, torch.nn.Linear]]:
    """The published recipe as a plain loop of torch and transformers, weights by epoch."""
    generator = torch.Generator().manual_seed(seed)
    split = len(sender) - len(sender) // 10
    x, y = (torch.nn.functional.normalize(side, dim=-1) for side in (sender, receiver))
    layer = torch.nn.Linear(x.shape[1], y.shape[1])
    bound = 1 / math.sqrt(x.shape[1])
    with torch.no_grad():
        layer.weight.uniform_(-bound, bound, generator=generator)
        layer.bias.uniform_(-bound, bound, generator=generator)
    optimiser = torch.optim.AdamW(layer.parameters(), lr=settings.learning_rate, fused=False)
    steps = settings.epochs * math.ceil(split / settings.batch_size)
    scheduler = get_linear_schedule_with_warmup(optimiser, settings.warmup_steps, steps)
    losses, kept = [], {}
    for epoch in range(1, settings.epochs + 1):
        for picked in torch.randperm(split, generator=generator).split(settings.batch_size):
            optimiser.zero_grad()
            torch.nn.functional.mse_loss(layer(x[picked]), y[picked]).backward()
            torch.nn.utils.clip_grad_norm_(layer.parameters(), 1.0)
            optimiser.step()
            scheduler.step()
        with torch.no_grad():
            losses.append(float(torch.nn.functional.mse_loss(layer(x[split:]), y[split:])))
        copy = torch.nn.Linear(x.shape[1], y.shape[1])
        copy.load_state_dict(layer.state_dict())
        kept[epoch] = copy
    return losses, kept


def test_equals_a_plain_training_loop(store: PositionStore) -> None:
    sender, receiver = store.rows(torch.arange(len(store)))
    losses, kept = plain_training(sender, receiver, QUICK, seed=3)
    fit = train_translator(store, QUICK, seed=3)
    record = record_of(fit)
    # Fused and unfused AdamW order their float32 operations differently: 24 steps of 0.01.
    assert [epoch.validation_loss for epoch in record.epochs] == pytest.approx(losses, rel=1e-4)
    best = kept[record.best_epoch]
    torch.testing.assert_close(
        fit.translator.weights()["weight"], best.weight.detach(), atol=1e-5, rtol=0
    )
    torch.testing.assert_close(
        fit.translator.weights()["bias"], best.bias.detach(), atol=1e-5, rtol=0
    )


def test_record(store: PositionStore) -> None:
    record = record_of(train_translator(store, QUICK, seed=3))
    assert (record.training_positions, record.validation_positions) == (185, 20)
    assert record.steps == 4 * 6  # ⌈185 / 32⌉ steps an epoch
    assert [epoch.epoch for epoch in record.epochs] == [1, 2, 3, 4]
    assert (record.seed, record.settings, record.normalize_target) == (3, QUICK, True)
    assert record.epochs[0].learning_rate == 0.01 * 19 / 19  # step 5, the warm-up just over
    assert record.epochs[-1].learning_rate == 0.01 * 1 / 19


@pytest.mark.parametrize("kind", OF_STATES)
def test_same_again_to_the_bit_and_other_seed_not(store: PositionStore, kind: str) -> None:
    settings = QUICK.model_copy(update={"hidden_dim": 7 if kind.startswith("mlp") else None})
    train = partial(train_translator, kind=kind, rank=2 if kind == "low_rank" else None)
    before = torch.get_rng_state()
    first = train(store, settings, seed=1)
    torch.randn(5)
    second = train(store, settings, seed=1)
    other = train(store, settings, seed=2)
    assert first.record == second.record
    for name, tensor in first.translator.weights().items():
        assert torch.equal(second.translator.weights()[name], tensor)
        assert not torch.equal(other.translator.weights()[name], tensor)
    torch.set_rng_state(before)


def test_leaves_the_global_generator_alone(store: PositionStore) -> None:
    before = torch.get_rng_state()
    train_translator(store, QUICK)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["affine", "mlp_1hidden", "low_rank", "gated"])
def test_beats_the_mean_baseline_on_linear_data(kind: str) -> None:
    settings = TrainingSettings(
        epochs=10, learning_rate=0.02, hidden_dim=16 if kind == "mlp_1hidden" else None
    )
    with PositionStore.from_batches([linear_pair(1000)]) as positions:
        fit = train_translator(
            positions, settings, kind=kind, rank=4 if kind == "low_rank" else None
        )
    report = measure_quality(fit.translator, [linear_pair(300, seed=50)], fit.means)
    assert report.normalised.r2 > 0.8
    assert report.normalised.baseline_r2 < 0.05
    assert report.normalised.cosine > report.normalised.baseline_cosine + 0.1
    losses = [epoch.validation_loss for epoch in record_of(fit).epochs]
    assert losses[-1] < losses[0]


def worsening() -> tuple[torch.Tensor, torch.Tensor]:
    """Targets of the training part that lead away from those of the validation part."""
    sender = normal(200, 6)
    receiver = torch.zeros(200, 5)
    receiver[:180, 0] = 1  # trained towards the first axis,
    receiver[180:, 1] = 1  # validated on the second
    return sender, receiver


def test_best_epoch_is_kept() -> None:
    settings = TrainingSettings(
        epochs=6, warmup_steps=0, learning_rate=0.05, decay="none", batch_size=180
    )
    with PositionStore.from_batches([worsening()]) as positions:
        fit = train_translator(positions, settings, seed=4)
        sender, receiver = next(positions.batches(start=180))
    record = record_of(fit)
    losses = [epoch.validation_loss for epoch in record.epochs]
    assert losses.index(min(losses)) + 1 == record.best_epoch < 6
    assert losses[-1] > min(losses) * 1.1
    error = (fit.translator(sender) - receiver).double().square().mean()
    # The same numbers summed in another order.
    assert float(error) == pytest.approx(min(losses), rel=1e-9)


def test_validation_positions_are_never_trained_on() -> None:
    sender, receiver = linear_pair(200)
    changed = receiver.clone()
    changed[180:] = 5 * normal(20, 5, seed=9)
    weights = []
    for targets in (receiver, changed):
        with PositionStore.from_batches([(sender, targets)]) as positions:
            fit = train_translator(positions, QUICK.model_copy(update={"epochs": 1}))
            weights.append(fit.translator.weights()["weight"])
            assert torch.equal(fit.means.raw, target_means([(sender[:180], targets[:180])]).raw)
    assert torch.equal(weights[0], weights[1])


def test_without_normalisation() -> None:
    sender, receiver = linear_pair(300, noise=0)
    settings = TrainingSettings(epochs=60, learning_rate=0.1, warmup_steps=10)
    with PositionStore.from_batches([(sender, receiver)]) as positions:
        fit = train_translator(positions, settings, normalize=False)
    assert fit.translator.normalize_input is False
    assert record_of(fit).normalize_target is False
    assert measure_quality(fit.translator, [(sender, receiver)], fit.means).raw.r2 > 0.99


def test_gradients_are_clipped() -> None:
    sender, receiver = linear_pair(100)
    norms = []
    original = torch.nn.utils.clip_grad_norm_

    def spy(parameters: Iterator[torch.nn.Parameter], max_norm: float) -> torch.Tensor:
        kept = list(parameters)
        before = original(kept, max_norm)
        gradients = [parameter.grad for parameter in kept if parameter.grad is not None]
        norms.append((float(before), float(torch.nn.utils.get_total_norm(gradients))))
        return before

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(torch.nn.utils, "clip_grad_norm_", spy)
        with PositionStore.from_batches([(sender, receiver * 1000)]) as positions:
            train_translator(positions, QUICK, normalize=False)
            assert len(norms) == 12
            assert all(before > 1 and after <= 1 + 1e-5 for before, after in norms)
            norms.clear()
            unclipped = QUICK.model_copy(update={"max_gradient_norm": None})
            train_translator(positions, unclipped, normalize=False)
            assert norms == []


def test_progress(store: PositionStore) -> None:
    seen: list[tuple[int, int]] = []
    train_translator(store, QUICK, progress=lambda *counts: seen.append(counts))
    assert [step for step, _ in seen] == [6, 12, 18, 24]
    assert {steps for _, steps in seen} == {24}


def test_warm_up_longer_than_the_training(store: PositionStore) -> None:
    with refused(TranslatorError, "24 steps", "4 epochs", "warmup_steps 24"):
        train_translator(store, TrainingSettings(epochs=4, warmup_steps=24))


def test_hidden_dim_must_fit_the_kind(store: PositionStore) -> None:
    with refused(TranslatorError, "mlp_1hidden takes hidden_dim"):
        train_translator(store, QUICK, kind="mlp_1hidden")
    with refused(TranslatorError, "affine takes no option"):
        train_translator(store, QUICK.model_copy(update={"hidden_dim": 3}))
    with refused(TranslatorError, "low_rank takes rank", "got none"):
        train_translator(store, QUICK, kind="low_rank")
    with refused(TranslatorError, "gated takes no option", "got rank"):
        train_translator(store, QUICK, kind="gated", rank=3)


def test_diverging_training_is_an_error() -> None:
    sender, receiver = linear_pair(200)
    settings = TrainingSettings(epochs=4, warmup_steps=1, learning_rate=1e30)
    with (
        PositionStore.from_batches([(sender, receiver * 1e8)]) as positions,
        refused(NumericError, "loss", "epoch", "learning_rate"),
    ):
        train_translator(positions, settings, normalize=False)
