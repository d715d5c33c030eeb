"""The parts of every training: split, AdamW, warm-up and decay, clipped gradients."""

from __future__ import annotations

import math
from collections.abc import Iterable
from fractions import Fraction

import torch

from statebridge.errors import NumericError, TranslatorError
from statebridge.experiment.translator_settings import CausalSettings, TrainingSettings


def validation_start(
    count: int, fraction: float, items: str = "corpus positions", more: str = "text"
) -> int:
    """Return the index at which the validation items begin.

    They are the last ⌊count · fraction⌋, `fraction` taken as the decimal it is written
    as (so that 0.29 of 100 is 29).

    Raises:
        TranslatorError: No item is left on one of the two sides.
    """
    held_out = math.floor(count * Fraction(str(fraction)))
    if not 0 < held_out < count:
        raise TranslatorError(
            f"{count} {items} split at validation_fraction {fraction} leave "
            f"{count - held_out} to train on and {held_out} to validate; give more {more}"
        )
    return count - held_out


def count_steps(
    settings: TrainingSettings | CausalSettings,
    count: int,
    batch: int,
    items: str = "positions",
    more: str = "text",
) -> int:
    """Return the number of steps over `count` items in batches, in all epochs.

    Raises:
        TranslatorError: All of them are within the warm-up.
    """
    steps = math.ceil(count / batch) * settings.epochs
    if settings.warmup_steps >= steps:
        raise TranslatorError(
            f"{count} training {items} give {steps} steps in {settings.epochs} epochs, all of "
            f"them within warmup_steps {settings.warmup_steps}; give more {more}, more epochs or "
            "a shorter warm-up"
        )
    return steps


def learning_rate_factor(
    step: int, warmup_steps: int, total_steps: int, *, linear_decay: bool = True
) -> float:
    """Return the factor of the learning rate at `step`, counted from 0.

    Rises from 0 by 1/warmup_steps a step, then falls linearly so that it would be 0 at
    `total_steps`: the rule of transformers' `get_linear_schedule_with_warmup`.
    """
    if step < warmup_steps:
        return step / warmup_steps
    if not linear_decay:
        return 1.0
    return (total_steps - step) / (total_steps - warmup_steps)


class Optimiser:
    """AdamW over some parameters, and the step that it is at."""

    def __init__(
        self,
        parameters: Iterable[torch.nn.Parameter],
        settings: TrainingSettings | CausalSettings,
        steps: int,
        loss: str = "loss",
    ) -> None:
        self.step, self._loss = 0, loss
        """Steps done."""
        self._settings = settings
        self._steps = steps
        self._parameters = list(parameters)
        self._adamw = torch.optim.AdamW(
            self._parameters,
            lr=settings.learning_rate,
            betas=settings.betas,
            eps=settings.eps,
            weight_decay=settings.weight_decay,
            fused=True,
        )

    def learning_rate(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        settings = self._settings
        return settings.learning_rate * learning_rate_factor(
            step,
            settings.warmup_steps,
            self._steps,
            linear_decay=settings.decay == "linear",
        )

    def descend(self, loss: torch.Tensor) -> None:
        """Take one step down the gradient of a scalar loss."""
        self.clear()
        # Not `loss.backward()`, which nnsight wraps for traces of gradients.
        torch.autograd.backward(loss)
        self.follow()

    def clear(self) -> None:
        """Forget the gradients."""
        self._adamw.zero_grad(set_to_none=True)

    def follow(self) -> None:
        """Take one step down the gradients that the parameters have."""
        self._adamw.param_groups[0]["lr"] = self.learning_rate(self.step)
        if self._settings.max_gradient_norm is not None:
            torch.nn.utils.clip_grad_norm_(self._parameters, self._settings.max_gradient_norm)
        self._adamw.step()
        self.step += 1

    def finite(self, loss: float, epoch: int) -> float:
        """Return a loss.

        Raises:
            NumericError: It is not finite.
        """
        if not math.isfinite(loss):
            raise NumericError(
                f"the {self._loss} is {loss} in epoch {epoch}; try a lower learning_rate than "
                f"{self._settings.learning_rate}"
            )
        return loss
