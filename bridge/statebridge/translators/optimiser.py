"""The gradient step of every training: AdamW, warm-up and decay, clipped gradients."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from statebridge.experiment.translator_settings import CausalSettings, TrainingSettings


def learning_rate_factor(
    step: int, warmup_steps: int, total_steps: int, *, linear_decay: bool = True
) -> float:
    """Return what the learning rate is multiplied by at `step`, counted from 0.

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
    ) -> None:
        self.step = 0
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
        self._adamw.param_groups[0]["lr"] = self.learning_rate(self.step)
        self._adamw.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if self._settings.max_gradient_norm is not None:
            torch.nn.utils.clip_grad_norm_(self._parameters, self._settings.max_gradient_norm)
        self._adamw.step()
        self.step += 1
