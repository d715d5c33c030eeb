"""How a translator is to be fitted: the settings that an experiment file may carry.

Free of torch, so that the light half can read and check an experiment.
"""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

TranslatorKind = Literal["affine", "mlp_1hidden", "mlp_3hidden"]
"""Names of the maps; `kinds.KINDS` says how each is built."""

TRANSLATOR_KINDS: tuple[TranslatorKind, ...] = get_args(TranslatorKind)

StoreDtype = Literal["float32", "float16"]

Beta = Annotated[float, Field(ge=0, lt=1)]


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class TrainingSettings(_Settings):
    """Gradient training; the defaults are those of arXiv 2606.03280.

    What the paper leaves open is set to the default of `torch.optim.AdamW` (`betas`,
    `eps`, `weight_decay`).
    """

    hidden_dim: int | None = Field(default=None, ge=1)
    """Width of every hidden layer; needed by the MLPs, refused by the others."""
    epochs: int = Field(default=30, ge=1)
    batch_size: int = Field(default=32, ge=1)
    """Positions a step."""
    learning_rate: float = Field(default=1e-4, gt=0)
    warmup_steps: int = Field(default=100, ge=0)
    decay: Literal["linear", "none"] = "linear"
    """After the warm-up: linearly to zero over the remaining steps, or constant."""
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    eps: float = Field(default=1e-8, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)
    max_gradient_norm: float | None = Field(default=1.0, gt=0)
    """None: gradients are not clipped."""
    validation_fraction: float = Field(default=0.1, gt=0, lt=1)
    """Share of the positions, taken from the end, that chooses the epoch."""
    store_dtype: StoreDtype = "float32"
    """How positions are kept on disk while training; float16 halves the space."""


class RidgeSettings(_Settings):
    """Closed-form ridge regression of an affine translator."""

    regularisation: float = Field(default=1e-4, ge=0)
    """Penalty on the weights (not the bias), relative to the mean variance of an input
    dimension; 0 is ordinary least squares."""
    max_condition_number: float = Field(default=1e12, gt=1)
    """Of the penalised matrix that is solved. Float64 carries about 16 digits, so at 1e12
    some four are left in the worst direction."""
    allow_underdetermined: bool = False
    """Fit from fewer positions than width + 1, which only the penalty then determines."""
