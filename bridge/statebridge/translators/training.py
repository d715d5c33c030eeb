"""Training a translator by gradient descent, as arXiv 2606.03280 does.

The mean squared error between the translation of the (L2-normalised) sender state and the
(L2-normalised) receiver state; AdamW; a warm-up, then a linear decay to zero; clipped
gradients; the last positions of the corpus for validation; the best epoch kept.

All randomness comes from one generator of its own. The same store, seed, settings, machine
and thread count give the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import torch

from statebridge.errors import NumericError, TranslatorError
from statebridge.experiment.translator_settings import TrainingSettings
from statebridge.results.translator_card import EpochRecord, TrainingRecord
from statebridge.translators.fit import Fit, finished
from statebridge.translators.maps import initialise
from statebridge.translators.normalisation import l2_normalise
from statebridge.translators.optimiser import Optimiser
from statebridge.translators.position_store import PositionStore
from statebridge.translators.positions import PositionBatch
from statebridge.translators.quality import target_means
from statebridge.translators.translator import Translator

# Batches drawn from the store at a time: one gather for many steps, yet little memory.
BATCHES_PER_GATHER = 64


@dataclass(frozen=True, slots=True)
class TrainingProgress:
    """How far training is; given to the progress callback."""

    step: int
    """Steps done."""
    steps: int
    """Steps in all."""
    epoch: int
    """The epoch now in work or just done, from 1."""
    epochs: int
    finished_epoch: EpochRecord | None
    """Set once an epoch is validated."""


ProgressCallback = Callable[[TrainingProgress], None]


def validation_start(
    count: int, fraction: float, items: str = "corpus positions", more: str = "text"
) -> int:
    """Return the index at which the validation items begin.

    They are the last ⌊count · fraction⌋, `fraction` taken as the decimal it is written
    as (so that 0.29 of 100 is 29). Raises `TranslatorError` where none is left on either side.
    """
    held_out = math.floor(count * Fraction(str(fraction)))
    if not 0 < held_out < count:
        raise TranslatorError(
            f"{count} {items} split at validation_fraction {fraction} leave "
            f"{count - held_out} to train on and {held_out} to validate; give more {more}"
        )
    return count - held_out


class _Trainer:
    """One training: the translator, its optimiser, and the step that it is at."""

    def __init__(
        self,
        store: PositionStore,
        settings: TrainingSettings,
        *,
        kind: str,
        rank: int | None,
        seed: int,
        normalize: bool,
        device: torch.device,
        progress: ProgressCallback | None,
    ) -> None:
        self.store = store
        self.settings = settings
        self.seed = seed
        self.normalize = normalize
        self.device = device
        self.progress = progress
        self.training_positions = validation_start(len(store), settings.validation_fraction)
        steps_an_epoch = math.ceil(self.training_positions / settings.batch_size)
        self.steps = steps_an_epoch * settings.epochs
        if settings.warmup_steps >= self.steps:
            raise TranslatorError(
                f"{self.training_positions} training positions give {self.steps} steps in "
                f"{settings.epochs} epochs, all of them within warmup_steps "
                f"{settings.warmup_steps}; give more text, more epochs or a shorter warm-up"
            )
        self.generator = torch.Generator().manual_seed(seed)
        options = {"hidden_dim": settings.hidden_dim, "rank": rank}
        self.translator = Translator(
            kind,
            store.width_in,
            store.width_out,
            options={name: value for name, value in options.items() if value is not None},
            normalize_input=normalize,
        )
        initialise(self.translator, self.generator)
        self.translator.to(device)
        self.optimiser = Optimiser(self.translator.parameters(), settings, self.steps)

    def train_epoch(self, epoch: int) -> float:
        """Go once through the training positions in a new order; return the mean loss."""
        size = self.settings.batch_size
        order = torch.randperm(self.training_positions, generator=self.generator)
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        for picked in torch.split(order, size * BATCHES_PER_GATHER):
            sender, target = self._prepared(self.store.rows(picked))
            for inputs, targets in zip(
                torch.split(sender, size), torch.split(target, size), strict=True
            ):
                total += self._train_step(inputs, targets).double() * len(inputs)
            self._report(epoch, None)
        return self._finite(float(total) / self.training_positions, epoch)

    def _train_step(self, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        loss: torch.Tensor = (self.translator(inputs) - targets).square().mean()
        self.optimiser.descend(loss)
        return loss.detach()

    def validate(self, epoch: int) -> float:
        """Return the mean squared error over the validation positions."""
        squared = 0.0
        with torch.no_grad():
            for batch in self.store.batches(start=self.training_positions):
                inputs, targets = self._prepared(batch)
                squared += float((self.translator(inputs) - targets).double().square().sum())
        held_out = len(self.store) - self.training_positions
        return self._finite(squared / (held_out * self.store.width_out), epoch)

    def _prepared(self, batch: PositionBatch) -> PositionBatch:
        sender, receiver = (side.to(self.device) for side in batch)
        # The translator normalises its own input.
        return sender, l2_normalise(receiver) if self.normalize else receiver

    def _finite(self, loss: float, epoch: int) -> float:
        if not math.isfinite(loss):
            raise NumericError(
                f"the loss is {loss} in epoch {epoch}; try a lower learning_rate than "
                f"{self.settings.learning_rate}"
            )
        return loss

    def _report(self, epoch: int, record: EpochRecord | None) -> None:
        if self.progress is not None:
            self.progress(
                TrainingProgress(
                    self.optimiser.step, self.steps, epoch, self.settings.epochs, record
                )
            )

    def train(self) -> Fit:
        records: list[EpochRecord] = []
        best_loss, best_epoch, best_weights = math.inf, 0, self.translator.weights()
        for epoch in range(1, self.settings.epochs + 1):
            record = EpochRecord(
                epoch=epoch,
                training_loss=self.train_epoch(epoch),
                validation_loss=self.validate(epoch),
                learning_rate=self.optimiser.learning_rate(self.optimiser.step - 1),
            )
            records.append(record)
            if record.validation_loss < best_loss:
                best_loss, best_epoch = record.validation_loss, epoch
                best_weights = self.translator.weights()
            self._report(epoch, record)
        self.translator.set_weights(best_weights, where="training")
        record_of_all = TrainingRecord(
            settings=self.settings,
            seed=self.seed,
            normalize_target=self.normalize,
            training_positions=self.training_positions,
            validation_positions=len(self.store) - self.training_positions,
            steps=self.steps,
            device=str(self.device),
            epochs=tuple(records),
            best_epoch=best_epoch,
        )
        means = target_means(self.store.batches(stop=self.training_positions))
        return Fit(finished(self.translator), record_of_all, means)


def train_translator(
    store: PositionStore,
    settings: TrainingSettings | None = None,
    *,
    kind: str = "affine",
    rank: int | None = None,
    seed: int = 42,
    normalize: bool = True,
    device: torch.device | str = "cpu",
    progress: ProgressCallback | None = None,
) -> Fit:
    """Train a translator on the stored positions and return it with its record.

    `normalize` L2-normalises the sender states (the translator keeps doing so) and the
    receiver states it is fitted to; `rank` is that of a low_rank map. The store is read, not
    changed. `progress` is called every few batches and after each epoch.

    Raises `TranslatorError` where the positions do not suffice for the split or for the
    warm-up, or where `settings.hidden_dim` or `rank` does not fit the kind; `NumericError`
    where the loss leaves the finite numbers.
    """
    return _Trainer(
        store,
        settings or TrainingSettings(),
        kind=kind,
        rank=rank,
        seed=seed,
        normalize=normalize,
        device=torch.device(device),
        progress=progress,
    ).train()
