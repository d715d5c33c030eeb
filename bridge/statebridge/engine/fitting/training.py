"""Gradient descent through the frozen receiver, of one map or of several in step.

A training is a generator: it asks for the losses of some rows, and goes on when it has them. What
several trainings ask for is answered together where a pass through the receiver can take all rows.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import torch

from statebridge.engine.executors.memory import DoesNotFit, halving
from statebridge.engine.fitting.causal_loss import RowLosses
from statebridge.engine.fitting.causal_rows import ChosenRows
from statebridge.errors import EnvironmentFault
from statebridge.experiment.conditions import Condition
from statebridge.experiment.experiment import Causal
from statebridge.models.pair import Pair
from statebridge.results.translator_card import CausalEpochRecord, CausalRecord
from statebridge.translators import Translator
from statebridge.translators.fit import finished
from statebridge.translators.optimiser import Optimiser, count_steps, validation_start

Progress = Callable[[int, int], None]
"""Called with steps done and steps in all; training may stop before them."""


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


@dataclass(frozen=True, slots=True)
class Asked:
    """Rows whose losses a `Training` needs next, with their gradients where it `learns`."""

    training: Any
    rows: Sequence[int]
    learns: bool


@dataclass(frozen=True, slots=True)
class MeanLosses:
    """Mean loss of some rows, and the means of its two terms; scalars."""

    loss: torch.Tensor
    gold: torch.Tensor
    divergence: torch.Tensor


Trained = tuple[Translator, CausalRecord]
_Steps = Generator[Asked, MeanLosses, Trained]


class Training(ABC, Generic[R]):
    """One training: the map, its optimiser, its rows."""

    start_scale = 1.0
    """Factor of the map's output before the first step."""

    def __init__(self, rows: R, translator: Translator, seed: int) -> None:
        self.rows = rows
        self.settings = rows.causal.training
        self.seed = seed
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

    @staticmethod
    @abstractmethod
    def row_losses(asked: Sequence[Asked]) -> list[RowLosses]:
        """Return the losses of what several trainings on the same rows ask for."""

    def set_up(self) -> None:
        """Change the map into the form that is trained."""

    def set_back(self) -> None:
        """Change the trained map into the form that is used."""

    def run(self) -> _Steps:
        """Train: ask for losses, and return the best map with the record."""
        began = time.monotonic()
        records = [(yield from self._validated(0, None))]
        best, best_weights = records[0], self.map.weights()
        for epoch in range(1, self.settings.epochs + 1):
            training_loss = yield from self._train_epoch(epoch)
            records.append((yield from self._validated(epoch, training_loss)))
            if records[-1].validation_loss < best.validation_loss:
                best, best_weights = records[-1], self.map.weights()
            if epoch - best.epoch >= self.settings.patience:
                break
        self.map.set_weights(best_weights, where="causal training")
        self.set_back()
        return finished(self.map), self._record(records, best.epoch, time.monotonic() - began)

    def _train_epoch(self, epoch: int) -> Generator[Asked, MeanLosses, float]:
        order = torch.randperm(len(self.training), generator=self.generator).tolist()
        total = 0.0
        for chosen in chunks([self.training[i] for i in order], self.settings.batch_rows):
            found = yield Asked(self, chosen, learns=True)
            total += float(found.loss.detach()) * len(chosen)
            if not math.isfinite(total):
                break
            self.optimiser.follow()
        return self.optimiser.finite(total / len(self.training), epoch)

    def _validated(
        self, epoch: int, training_loss: float | None
    ) -> Generator[Asked, MeanLosses, CausalEpochRecord]:
        sums = [0.0, 0.0, 0.0]
        for chosen in chunks(self.held_out, self.settings.batch_rows):
            found = yield Asked(self, chosen, learns=False)
            for place, mean in enumerate((found.loss, found.gold, found.divergence)):
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

    def mean_losses(self, losses: RowLosses) -> MeanLosses:
        """Return the mean loss of some rows, and the means of its two terms."""
        gold, divergence = losses.gold.mean(), losses.divergence.mean()
        settings = self.settings
        loss = settings.gold_weight * gold + settings.skyline_weight * divergence
        return MeanLosses(loss, gold, divergence)

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


def carry_out(
    trainings: Sequence[Training[R]], progress: Progress, together: int = 1
) -> list[Trained]:
    """Carry trainings on the same rows out, so many at a time in step; return what each gives.

    Raises:
        NumericError: A loss leaves the finite numbers.
        EnvironmentFault: The activations of a single training's rows do not fit into memory.
    """
    found: list[Trained] = []
    steps = sum(training.steps for training in trainings)
    with frozen(trainings[0].rows.pair):
        for start in range(0, len(trainings), together):
            some = trainings[start : start + together]
            found += in_step(
                some, lambda: progress(sum(t.optimiser.step for t in trainings), steps)
            )
    progress(steps, steps)
    return found


def in_step(trainings: Sequence[Training[R]], stepped: Callable[[], None]) -> list[Trained]:
    """Carry trainings out with one pass for the steps of all that have not ended."""
    found: dict[int, Trained] = {}
    running = [training.run() for training in trainings]
    asked = {place: next(steps) for place, steps in enumerate(running)}
    while asked:
        answers = zip(list(asked), _answered(list(asked.values())), strict=True)
        learnt = any(each.learns for each in asked.values())
        for place, answer in answers:
            try:
                asked[place] = running[place].send(answer)
            except StopIteration as ended:
                found[place] = ended.value
                del asked[place]
        if learnt:
            stepped()
    return [found[place] for place in range(len(trainings))]


def _answered(asked: Sequence[Asked]) -> list[MeanLosses]:
    """Return mean losses; where memory does not suffice for all at once, of half after half."""
    try:
        return halving(_losses, asked, "training")
    except DoesNotFit:
        raise EnvironmentFault(
            f"out of memory training on {len(asked[0].rows)} rows at once; lower "
            "causal.training.batch_rows"
        ) from None


def _losses(asked: Sequence[Asked]) -> list[MeanLosses]:
    """Return mean losses of trainings that are all in the same phase, and leave gradients."""
    learns = asked[0].learns
    with torch.set_grad_enabled(learns):
        losses = asked[0].training.row_losses(asked)
        pairs = zip(asked, losses, strict=True)
        found = [each.training.mean_losses(of_rows) for each, of_rows in pairs]
    if learns:
        for each in asked:
            each.training.optimiser.clear()
        # Not `loss.backward()`, which nnsight wraps for traces of gradients.
        torch.autograd.backward([each.loss for each in found])
    return found


def chunks(items: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    """Yield the items, so many at a time."""
    return (items[start : start + size] for start in range(0, len(items), size))


def _copy(translator: Translator, pair: Pair) -> Translator:
    copy = Translator(**translator.identity)
    copy.set_weights(translator.weights(), where="the fitted translator")
    return copy.to(device=pair.receiver.device, dtype=pair.receiver.exact_dtype)


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
