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

import torch

from statebridge.experiment.translator_settings import TrainingSettings
from statebridge.results.translator_card import EpochRecord, TrainingRecord
from statebridge.translators.fit import Fit, finished
from statebridge.translators.modules.maps import initialise, l2_normalise
from statebridge.translators.optimiser import Optimiser, count_steps, validation_start
from statebridge.translators.position_store import PositionStore
from statebridge.translators.positions import PositionBatch
from statebridge.translators.quality import target_means
from statebridge.translators.translator import Translator

# Batches drawn from the store at a time: one gather for many steps, yet little memory.
BATCHES_PER_GATHER = 64

Progress = Callable[[int, int], None]
"""Called with steps done and steps in all."""


class _Trainer:
    """One training: the translator, its optimiser, and the step that it is at."""

    def __init__(
        self,
        store: PositionStore,
        settings: TrainingSettings,
        translator: Translator,
        seed: int,
        device: torch.device,
    ) -> None:
        self.store, self.settings, self.translator = store, settings, translator
        self.seed, self.device = seed, device
        self.kept = validation_start(len(store), settings.validation_fraction)
        self.steps = count_steps(settings, self.kept, settings.batch_size)
        self.generator = torch.Generator().manual_seed(seed)
        initialise(translator, self.generator)
        self.optimiser = Optimiser(translator.to(device).parameters(), settings, self.steps)

    def train(self, progress: Progress) -> Fit:
        records: list[EpochRecord] = []
        best_loss, best_epoch, best_weights = math.inf, 0, self.translator.weights()
        for epoch in range(1, self.settings.epochs + 1):
            record = EpochRecord(
                epoch=epoch,
                training_loss=self._train_epoch(epoch, progress),
                validation_loss=self._validate(epoch),
                learning_rate=self.optimiser.learning_rate(self.optimiser.step - 1),
            )
            records.append(record)
            if record.validation_loss < best_loss:
                best_loss, best_epoch = record.validation_loss, epoch
                best_weights = self.translator.weights()
        self.translator.set_weights(best_weights, where="training")
        record_of_all = TrainingRecord(
            settings=self.settings,
            seed=self.seed,
            normalize_target=self.translator.normalize_input,
            training_positions=self.kept,
            validation_positions=len(self.store) - self.kept,
            steps=self.steps,
            device=str(self.device),
            epochs=tuple(records),
            best_epoch=best_epoch,
        )
        means = target_means(self.store.batches(stop=self.kept))
        return Fit(finished(self.translator), record_of_all, means)

    def _train_epoch(self, epoch: int, progress: Progress) -> float:
        """Go once through the training positions in a new order; return the mean loss."""
        size = self.settings.batch_size
        order = torch.randperm(self.kept, generator=self.generator)
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        for picked in torch.split(order, size * BATCHES_PER_GATHER):
            sender, target = self._prepared(self.store.rows(picked))
            for inputs, targets in zip(
                torch.split(sender, size), torch.split(target, size), strict=True
            ):
                loss: torch.Tensor = (self.translator(inputs) - targets).square().mean()
                self.optimiser.descend(loss)
                total += loss.detach().double() * len(inputs)
            progress(self.optimiser.step, self.steps)
        return self.optimiser.finite(float(total) / self.kept, epoch)

    def _validate(self, epoch: int) -> float:
        """Return the mean squared error over the validation positions."""
        squared = 0.0
        with torch.no_grad():
            for batch in self.store.batches(start=self.kept):
                inputs, targets = self._prepared(batch)
                squared += float((self.translator(inputs) - targets).double().square().sum())
        held_out = len(self.store) - self.kept
        return self.optimiser.finite(squared / (held_out * self.store.width_out), epoch)

    def _prepared(self, batch: PositionBatch) -> PositionBatch:
        sender, receiver = (side.to(self.device) for side in batch)
        # The translator normalises its own input.
        return sender, l2_normalise(receiver) if self.translator.normalize_input else receiver


def train_translator(
    store: PositionStore,
    settings: TrainingSettings | None = None,
    *,
    kind: str = "affine",
    rank: int | None = None,
    seed: int = 42,
    normalize: bool = True,
    device: torch.device | str = "cpu",
    progress: Progress = lambda *_: None,
) -> Fit:
    """Train a translator on the stored positions and return it with its record.

    `normalize` L2-normalises the sender states (the translator keeps doing so) and the
    receiver states it is fitted to; `rank` is that of a low_rank map. The store is read, not
    changed. `progress` is called every few batches.

    Raises:
        TranslatorError: The positions do not suffice for the split or for the warm-up, or
            `settings.hidden_dim` or `rank` does not fit the kind.
        NumericError: The loss leaves the finite numbers.
    """
    settings = settings or TrainingSettings()
    options = {"hidden_dim": settings.hidden_dim, "rank": rank}
    translator = Translator(
        kind,
        store.width_in,
        store.width_out,
        options={name: value for name, value in options.items() if value is not None},
        normalize_input=normalize,
    )
    return _Trainer(store, settings, translator, seed, torch.device(device)).train(progress)
