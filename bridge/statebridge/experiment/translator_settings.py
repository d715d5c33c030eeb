"""How a translator is to be fitted: the settings that an experiment file may carry.

Free of torch, so that the light half can read and check an experiment.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from statebridge.errors import TranslatorError, nearest
from statebridge.experiment.declared import NO_BOOLEAN, NameIn
from statebridge.registry import Registry

if TYPE_CHECKING:
    from torch import nn

Build = Callable[[int, int, Mapping[str, int]], "nn.Module"]
"""(width of the sender's states, width of the receiver's, options) to the map, weights zero."""

SOLVED = ("ridge", "procrustes")
"""Ways of fitting an affine map in closed form; a file names them as `kind` too."""

KEY_VALUE_KIND = "kv_ridge"
"""The kind of a map between two models' keys and values, which is always solved for."""

FUSER_KIND = "fuser"
"""The kind of what fuses a sender's cache into the receiver's own."""

RESAMPLER_KIND = "resampler"
"""The kind of what makes soft tokens of a sender's states."""

CLOSED_FORM = (*SOLVED, KEY_VALUE_KIND)
"""Kinds that are not trained by gradients."""

THROUGH_ONLY = (FUSER_KIND, RESAMPLER_KIND)
"""Kinds that are trained through the receiver alone: there is nothing to fit them to."""

MESSAGE_KINDS = (KEY_VALUE_KIND, *THROUGH_ONLY)
"""Kinds that make a message of keys and values, or of vectors; all others map states."""


KIND_OPTIONS = (
    "hidden_dim",
    "rank",
    "blocks_in",
    "blocks_out",
    "sources",
    "groups",
    "inner_dim",
    "vectors",
)
"""Whole numbers that a kind may need beside the widths. A fit declares the first two as they are;
those of `MESSAGE_KINDS` follow from their settings and the pair."""


class TranslatorKind:
    """A kind of map from the sender's states to the receiver's.

    Args:
        build: Builds the map. It imports torch itself, so that an experiment file can be checked
            where torch is not installed.
        source: Where the method was published.
        options: Names of the whole numbers that it needs beside the widths: `hidden_dim`, `rank`.
    """

    def __init__(self, build: Build, source: str, options: tuple[str, ...]) -> None:
        # Named as the function, so that a notebook may define it again.
        self.__module__, self.__qualname__ = build.__module__, build.__qualname__
        self.__wrapped__ = build
        self.build, self.source, self.options = build, source, options
        for option in options:
            if option not in KIND_OPTIONS:
                raise TranslatorError(
                    f"translator kind {build.__qualname__}: unknown option {option!r}; "
                    f"{nearest(option, KIND_OPTIONS)}"
                )


KINDS: Registry[TranslatorKind] = Registry(
    "translator kind",
    package="statebridge.translators.kinds",
    group="statebridge.translator_kinds",
    error=TranslatorError,
)


def translator_kind(
    name: str, *, source: str, options: tuple[str, ...] = ()
) -> Callable[[Build], Build]:
    """Return a decorator that makes a function a kind of translator (docs/recipes).

    Args:
        name: The `kind` in an experiment file.
        source: Where the method was published.
        options: Names of the whole numbers that it needs: `hidden_dim`, `rank`.

    Raises:
        TranslatorError: Another kind has the name, or an option is unknown.
    """

    def added(build: Build) -> Build:
        KINDS.add(name)(TranslatorKind(build, source, options))
        return build

    return added


def check_map_kind(condition: str, needed: str | None, kind: str) -> None:
    """Refuse a map of the wrong kind for a condition: of states, or of another message.

    Args:
        condition: Its name.
        needed: Kind of message that it sends; None for states.
        kind: Kind of the map.

    Raises:
        ValueError: Names the condition and the kind.
    """
    if needed != (kind if kind in MESSAGE_KINDS else None):
        words = "a kind of maps of states" if needed is None else f"kind {needed}"
        raise ValueError(f"condition {condition} needs {words}, and its map is of {kind}")


FitKind = Annotated[str, NameIn(KINDS, also=SOLVED)]
"""The `kind` of a fit: a registered kind of map, or a way to solve for an affine one."""

StoreDtype = Literal["float32", "float16"]

Beta = Annotated[float, Field(ge=0, lt=1), NO_BOOLEAN]


class _Settings(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )


class TrainingSettings(_Settings):
    """Gradient training; the defaults are those of arXiv 2606.03280.

    What the paper leaves open is set to the default of `torch.optim.AdamW` (`betas`,
    `eps`, `weight_decay`).
    """

    hidden_dim: Annotated[int, Field(ge=1), NO_BOOLEAN] | None = None
    """Width of every hidden layer; needed by the MLPs, refused by the others."""
    epochs: Annotated[int, Field(ge=1), NO_BOOLEAN] = 30
    batch_size: Annotated[int, Field(ge=1), NO_BOOLEAN] = 32
    """Positions a step."""
    learning_rate: Annotated[float, Field(gt=0), NO_BOOLEAN] = 1e-4
    warmup_steps: Annotated[int, Field(ge=0), NO_BOOLEAN] = 100
    decay: Literal["linear", "none"] = "linear"
    """After the warm-up: linearly to zero over the remaining steps, or constant."""
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    eps: Annotated[float, Field(gt=0), NO_BOOLEAN] = 1e-8
    weight_decay: Annotated[float, Field(ge=0), NO_BOOLEAN] = 0.01
    max_gradient_norm: Annotated[float, Field(gt=0), NO_BOOLEAN] | None = 1.0
    """None: gradients are not clipped."""
    validation_fraction: Annotated[float, Field(gt=0, lt=1), NO_BOOLEAN] = 0.1
    """Share of the positions, taken from the end, that chooses the epoch."""
    store_dtype: StoreDtype = "float32"
    """How positions are kept on disk while training; float16 halves the space."""


class CausalSettings(_Settings):
    """Training a translator through the frozen receiver, for its effect and not for fit.

    The loss of a row is gold_weight · cross-entropy (nats a token of the gold answer) +
    skyline_weight · KL(skyline || receiver) of the next token after the prompt, the skyline
    being the receiver with the whole task prompt and nothing written.
    """

    gold_weight: Annotated[float, Field(ge=0), NO_BOOLEAN] = 1.0
    skyline_weight: Annotated[float, Field(ge=0), NO_BOOLEAN] = 1.0
    epochs: Annotated[int, Field(ge=1), NO_BOOLEAN] = 20
    """At most; training stops early."""
    batch_rows: Annotated[int, Field(ge=1), NO_BOOLEAN] = 16
    """Rows a step; the activations of so many are held at a time."""
    learning_rate: Annotated[float, Field(gt=0), NO_BOOLEAN] = 2e-3
    warmup_steps: Annotated[int, Field(ge=0), NO_BOOLEAN] = 20
    decay: Literal["linear", "none"] = "linear"
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    eps: Annotated[float, Field(gt=0), NO_BOOLEAN] = 1e-8
    weight_decay: Annotated[float, Field(ge=0), NO_BOOLEAN] = 0.0
    max_gradient_norm: Annotated[float, Field(gt=0), NO_BOOLEAN] | None = 1.0
    validation_fraction: Annotated[float, Field(gt=0, lt=1), NO_BOOLEAN] = 0.1
    """Share of the rows, held out, that chooses the epoch and stops training."""
    patience: Annotated[int, Field(ge=1), NO_BOOLEAN] = 3
    """Epochs without a better validation loss before training stops."""

    @model_validator(mode="after")
    def _some_objective(self) -> CausalSettings:
        if self.gold_weight == 0 and self.skyline_weight == 0:
            raise ValueError(
                "gold_weight and skyline_weight are both 0, which leaves nothing to train for"
            )
        return self


class RidgeSettings(_Settings):
    """Closed-form ridge regression of an affine translator."""

    regularisation: Annotated[float, Field(ge=0), NO_BOOLEAN] = 1e-4
    """Penalty on the weights (not the bias), relative to the mean variance of an input
    dimension; 0 is ordinary least squares."""
    max_condition_number: Annotated[float, Field(gt=1), NO_BOOLEAN] = 1e12
    """Largest condition number of the penalised matrix that is solved. Float64 carries about 16
    digits, so at 1e12 some four are left in the worst direction."""
    allow_underdetermined: bool = False
    """Fit from fewer positions than width + 1, which only the penalty then determines."""


class ProcrustesSettings(_Settings):
    """Closed-form orthogonal map between the two spaces."""

    scale: bool = True
    """Multiply the rotation by the one number that fits best; false leaves lengths alone."""


class KeyValueSettings(_Settings):
    """Closed-form maps of keys and values (arXiv 2608.03893)."""

    heads: Literal["same", "all"] = "same"
    """`same` maps each head from the head of its index, so both models have equal heads; `all`
    maps every head from all heads of the sender."""
    sources: Annotated[int, Field(ge=1), NO_BOOLEAN] = 8
    """Blocks of the sender that each block of the receiver reads: those that predict it best
    alone, at most all."""
    regularisation: Annotated[float, Field(ge=0), NO_BOOLEAN] = 0.01
    """As that of `ridge`."""
    max_condition_number: Annotated[float, Field(gt=1), NO_BOOLEAN] = 1e12
    allow_underdetermined: bool = False


class FuserSettings(_Settings):
    """Fusers of a sender's cache into the receiver's own (C2C, arXiv 2510.03215)."""

    hidden_dim: Annotated[int, Field(ge=1), NO_BOOLEAN] = 1024
    """Width between the entries that are read and those that are written."""
    inner_dim: Annotated[int, Field(ge=1), NO_BOOLEAN] | None = None
    """Width inside a residual block; None is that of `hidden_dim`."""


class ResamplerSettings(_Settings):
    """Learned queries that attend to a sender's states and give soft tokens."""

    vectors: Annotated[int, Field(ge=1, le=1000), NO_BOOLEAN] = 8
    """Number of queries, and so of vectors that the receiver reads."""
    hidden_dim: Annotated[int, Field(ge=1), NO_BOOLEAN] = 256
    """Width of queries, keys and values."""
    heads: Annotated[int, Field(ge=1), NO_BOOLEAN] = 4

    @model_validator(mode="after")
    def _heads_divide(self) -> ResamplerSettings:
        if self.hidden_dim % self.heads:
            raise ValueError(f"hidden_dim {self.hidden_dim} is not divisible by {self.heads} heads")
        return self
