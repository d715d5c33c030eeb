"""Declarations of a message: what is in front of the receiver's prompt."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from statebridge.experiment.declared import NO_BOOLEAN


class LayerShare(BaseModel):
    """A share of the layers, chosen by a rule (arXiv 2510.03346, whose symbols these are).

    Layers that are not chosen keep the first key and value only; layer 0 is always whole.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    share: Annotated[float, Field(gt=0, le=1), NO_BOOLEAN] = 0.3
    """int(share · layers) are chosen."""
    by: Literal["importance", "random", "middle"] = "importance"
    """`importance`: the attention that the receiver's prompts give to the message; `random`: drawn
    by the seed; `middle`: those in the middle of the depth."""
    rows: Annotated[int, Field(ge=1), NO_BOOLEAN] = 16
    """Most rows on which importance is measured."""
    held_out: bool = True
    """Measure importance on rows that are then left out of the condition. False measures it on the
    first rows, which are evaluated as well: the method as published."""
    alpha: Annotated[float, Field(ge=0, le=1), NO_BOOLEAN] = 1.0
    """Weight of importance; the rest is that of a Gaussian over depth."""
    mu: Annotated[float, Field(ge=0, le=1), NO_BOOLEAN] = 0.5
    """Centre of the Gaussian, as a share of the depth."""
    sigma: Annotated[float, Field(gt=0), NO_BOOLEAN] = 10.0
    """Width of the Gaussian, in layers."""


class Rollout(BaseModel):
    """Latent steps of the sender behind its prompt (LatentMAS, arXiv 2511.20639).

    In each step the last position's state after the final norm becomes the next input vector, at
    the mean norm of the input embedding.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    steps: Annotated[int, Field(ge=0, le=1000), NO_BOOLEAN] = 10
    by: Literal["realigned", "identity", "random"] = "realigned"
    """Map from the state to the input vector: least squares from output to input embedding; none;
    or, drawn by the seed, a random matrix with the singular values of the first."""
    keep: Literal["both", "latents"] = "both"
    """Entries that are sent: those of prompt and latent steps, or of the latent steps alone."""


Layers = (
    Literal["all"]
    | Annotated[tuple[Annotated[int, NO_BOOLEAN], ...], Field(min_length=1)]
    | LayerShare
)
"""`all` layers, a list of indices (negative ones count from the end), or a share by a rule."""
