"""Training a translator through the frozen receiver: for its effect there, and not for fit.

From the fitted map on, the loss is gold_weight · cross-entropy of the gold answer +
skyline_weight · KL(skyline || receiver), of the receiver with the state written. The gradient
goes through the upper blocks into the map and nowhere else: no weight of either model changes.
Such a map shows whether a state of the sender *can* reach the receiver at all, which
a fit for likeness leaves open.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Generic, Protocol, TypeVar

import torch

from statebridge.channels.operators import position_mask
from statebridge.engine.executors.memory import is_out_of_memory
from statebridge.engine.fitting.causal_loss import RowLosses, row_losses
from statebridge.engine.fitting.causal_rows import ChosenRows
from statebridge.engine.fitting.frozen_rows import FrozenRows, freeze_rows
from statebridge.errors import EnvironmentFault, TranslatorError
from statebridge.experiment.conditions import Condition
from statebridge.experiment.experiment import Causal, Experiment
from statebridge.models.pair import Pair
from statebridge.records import DatasetRow
from statebridge.results.translator_card import CausalEpochRecord, CausalRecord, StateOrigin
from statebridge.translators import Translator
from statebridge.translators.fit import Fit, finished
from statebridge.translators.modules.maps import SMALLEST_NORM, rescale
from statebridge.translators.optimiser import Optimiser, count_steps, validation_start

Progress = Callable[[int, int], None]
"""Called with steps done and steps in all; training may stop before them."""


def train_causally(
    rows: FrozenRows,
    translator: Translator,
    *,
    seed: int = 42,
    progress: Progress = lambda *_: None,
) -> tuple[Translator, CausalRecord]:
    """Train a copy of a fitted translator through the receiver; return it with its record.

    The copy comes as every fit does: on the CPU, in float32, gradients off. The first epoch of
    the lowest validation loss is kept, which may be the start (epoch 0). The same rows, map,
    seed, machine and thread count give the same bytes.

    Where the condition does not match norms, the map is first scaled so that its output is as
    long as the states it stands for: a map of normalised states gives vectors of length about
    1, a residual stream has tens. The learning rate is that of a map between states of length
    1, however long they are.

    Raises:
        TranslatorError: The translator does not fit the pair, or there are too few rows for
            the split or the warm-up.
        NumericError: The loss leaves the finite numbers.
        EnvironmentFault: The activations of `batch_rows` rows do not fit into memory.
    """
    _check_fits(translator, rows.pair)
    with frozen(rows.pair), torch.enable_grad():
        return _StateTraining(rows, translator, seed, progress).run()


def train_fits_causally(
    experiment: Experiment,
    pair: Pair,
    causal: Causal,
    fits: Mapping[int, Fit],
    evaluated: Sequence[DatasetRow],
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> tuple[dict[int, Fit], dict[int, CausalRecord], Sequence[DatasetRow]]:
    """Train the fits of several seeds, all on the same captured states.

    Returns fits, records and the rows trained and validated on.

    `progress` is called with `causal_capture` and `causal_train`. Raises as `freeze_rows` and
    `train_causally` do.
    """
    trained: dict[int, Fit] = {}
    records: dict[int, CausalRecord] = {}
    capturing = partial(progress, "causal_capture")
    with freeze_rows(experiment, pair, causal, evaluated, capturing) as rows:
        for place, (seed, fit) in enumerate(fits.items()):
            translator, records[seed] = train_causally(
                rows,
                fit.translator,
                seed=seed,
                progress=of_several(progress, "causal_train", place, len(fits)),
            )
            trained[seed] = replace(fit, translator=translator)
        return trained, records, rows.chosen.rows


def of_several(
    progress: Callable[[str, int, int], None], stage: str, place: int, count: int
) -> Progress:
    """Return the progress of one of `count` trainings, equally long, as a part of all."""
    return lambda step, steps: progress(stage, place * steps + step, count * steps)


class TrainingRows(Protocol):
    """Rows to train on."""

    pair: Pair
    causal: Causal
    chosen: ChosenRows
    condition: Condition

    def __len__(self) -> int: ...


R = TypeVar("R", bound=TrainingRows)


class Training(ABC, Generic[R]):
    """One training: the map, its optimiser, its rows."""

    start_scale = 1.0
    """Factor of the map's output before the first step."""

    def __init__(self, rows: R, translator: Translator, seed: int, progress: Progress) -> None:
        self.rows = rows
        self.settings = rows.causal.training
        self.seed = seed
        self.progress = progress
        self.generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(rows), generator=self.generator).tolist()
        kept = validation_start(
            len(rows), self.settings.validation_fraction, "training rows", "rows"
        )
        self.training, self.held_out = order[:kept], sorted(order[kept:])
        self.steps = count_steps(self.settings, kept, self.settings.batch_rows, "rows", "rows")
        self.map = _copy(translator, rows.pair)
        self.set_up()
        parameters = self.map.parameters()
        self.optimiser = Optimiser(parameters, self.settings, self.steps, "causal loss")

    @abstractmethod
    def row_losses(self, chosen: Sequence[int]) -> RowLosses:
        """Return the losses of some rows, with gradients of the map."""

    def set_up(self) -> None:
        """Change the map into the form that is trained."""

    def set_back(self) -> None:
        """Change the trained map into the form that is used."""

    def run(self) -> tuple[Translator, CausalRecord]:
        """Train, and return the best map with the record."""
        began = time.monotonic()
        records = [self._validated(0, None)]
        best, best_weights = records[0], self.map.weights()
        for epoch in range(1, self.settings.epochs + 1):
            records.append(self._validated(epoch, self._train_epoch(epoch)))
            if records[-1].validation_loss < best.validation_loss:
                best, best_weights = records[-1], self.map.weights()
            if epoch - best.epoch >= self.settings.patience:
                break
        self.progress(self.steps, self.steps)
        self.map.set_weights(best_weights, where="causal training")
        self.set_back()
        return finished(self.map), self._record(records, best.epoch, time.monotonic() - began)

    def _train_epoch(self, epoch: int) -> float:
        order = torch.randperm(len(self.training), generator=self.generator).tolist()
        total = 0.0
        for chosen in _chunks([self.training[i] for i in order], self.settings.batch_rows):
            loss, _, _ = self._loss(chosen)
            total += float(loss.detach()) * len(chosen)
            if not math.isfinite(total):
                break
            self.optimiser.descend(loss)
            self.progress(self.optimiser.step, self.steps)
        return self.optimiser.finite(total / len(self.training), epoch)

    def _validated(self, epoch: int, training_loss: float | None) -> CausalEpochRecord:
        sums = [0.0, 0.0, 0.0]
        with torch.no_grad():
            for chosen in _chunks(self.held_out, self.settings.batch_rows):
                for place, mean in enumerate(self._loss(chosen)):
                    sums[place] += float(mean) * len(chosen)
        loss, gold, divergence = (total / len(self.held_out) for total in sums)
        done = self.optimiser.step
        return CausalEpochRecord(
            epoch=epoch,
            training_loss=training_loss,
            validation_loss=self.optimiser.finite(loss, epoch),
            validation_gold=gold,
            validation_divergence=divergence,
            learning_rate=self.optimiser.learning_rate(done - 1) if done else None,
        )

    def _loss(self, chosen: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the mean loss of some rows, and the means of its two terms."""
        try:
            losses = self.row_losses(chosen)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise EnvironmentFault(
                f"out of memory training on {len(chosen)} rows at once; lower "
                "causal.training.batch_rows"
            ) from None
        gold, divergence = losses.gold.mean(), losses.divergence.mean()
        settings = self.settings
        loss = settings.gold_weight * gold + settings.skyline_weight * divergence
        return loss, gold, divergence

    def _record(
        self, records: Sequence[CausalEpochRecord], best_epoch: int, seconds: float
    ) -> CausalRecord:
        chosen = self.rows.chosen
        return CausalRecord(
            settings=self.settings,
            seed=self.seed,
            condition=self.rows.condition.model_dump(mode="json"),
            dataset=chosen.dataset,
            dataset_sha256=chosen.dataset_sha256,
            rows_sha256=chosen.sha256,
            training_rows=len(self.training),
            validation_rows=len(self.held_out),
            evaluated_rows_left_out=chosen.evaluated_left_out,
            repeated_rows_left_out=chosen.repeated_left_out,
            held_out_rows_left_out=chosen.held_out,
            start_scale=self.start_scale,
            steps=self.optimiser.step,
            device=str(self.rows.pair.receiver.device),
            seconds=round(seconds, 3),
            epochs=tuple(records),
            best_epoch=best_epoch,
        )


class _StateTraining(Training[FrozenRows]):
    """A map of states, in units of state lengths."""

    def set_up(self) -> None:
        """Scale the map to the lengths of states, and train it between states of length 1."""
        rows = self.rows
        sent, translated, written = _lengths(rows, self.map, self.training)
        matched = rows.condition.match_norm
        self.start_scale = 1.0 if matched else written / translated
        # Trained between states of length 1: one learning rate then serves every pair.
        self.inputs = 1.0 if self.map.normalize_input else 1 / sent
        self.outputs = translated if matched else written
        rescale(self.map.map, inputs=1 / self.inputs, outputs=self.start_scale / self.outputs)

    def set_back(self) -> None:
        """Scale the map to its inputs and outputs."""
        rescale(self.map.map, inputs=self.inputs, outputs=self.outputs)

    def row_losses(self, chosen: Sequence[int]) -> RowLosses:
        """Return the losses of rows with their states translated and written."""
        rows = self.rows
        return row_losses(rows.pair.receiver, rows.condition, rows.batch(chosen), self._translate)

    def _translate(self, states: torch.Tensor) -> torch.Tensor:
        translated: torch.Tensor = self.outputs * self.map(self.inputs * states)
        return translated


def _lengths(
    rows: FrozenRows, translator: Translator, chosen: Sequence[int]
) -> tuple[float, float, float]:
    """Return median L2 norms over the training rows; a median, since some states are huge.

    They are of the sender's states read, of their translations by the fitted map, and of the
    receiver's own states at the positions to be written.
    """
    sent, translated, written = [], [], []
    with torch.no_grad():
        for some in _chunks(chosen, rows.causal.training.batch_rows):
            batch = rows.batch(some)
            where = position_mask(batch.prompts, rows.condition.positions, batch.spans)
            sent.append(batch.sent.norm(dim=-1))
            translated.append(translator(batch.sent).norm(dim=-1))
            written.append(batch.own[where].norm(dim=-1))
    return _median(sent), _median(translated), _median(written)


def _median(parts: Sequence[torch.Tensor]) -> float:
    median = float(torch.cat(list(parts)).double().median())
    # States of zero have no length to go by.
    return median if median > SMALLEST_NORM else 1.0


def _chunks(items: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _copy(translator: Translator, pair: Pair) -> Translator:
    copy = Translator(**translator.identity)
    copy.set_weights(translator.weights(), where="the fitted translator")
    return copy.to(device=pair.receiver.device, dtype=pair.receiver.exact_dtype)


def _check_fits(translator: Translator, pair: Pair) -> None:
    sides = (("sender", pair.sender), ("receiver", pair.receiver))
    if (translator.width_in, translator.width_out) != (pair.sender.width, pair.receiver.width):
        raise TranslatorError(
            f"the translator maps width {translator.width_in} to {translator.width_out}; "
            f"{pair.sender.name} to {pair.receiver.name} needs {pair.sender.width} to "
            f"{pair.receiver.width}"
        )
    for side, model in sides if translator.card is not None else ():
        origin: StateOrigin | None = getattr(translator.card, side)
        if origin is not None and origin.layer != model.layer_path:
            raise TranslatorError(
                f"the translator was fitted to the {side}'s {origin.layer} of {origin.model}, but "
                f"the pair is at {model.layer_path} of {model.name}; fit one for these layers"
            )


@contextmanager
def frozen(pair: Pair) -> Iterator[None]:
    """Keep gradients from the weights of both models."""
    parameters = {*pair.sender.module.parameters(), *pair.receiver.module.parameters()}
    learning = [parameter for parameter in parameters if parameter.requires_grad]
    try:
        for parameter in learning:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)
