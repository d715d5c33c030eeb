"""The kind that makes soft tokens of a sender's states."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from statebridge.experiment.translator_settings import RESAMPLER_KIND, translator_kind

if TYPE_CHECKING:
    from torch import nn


@translator_kind(
    RESAMPLER_KIND,
    source="the resampler of Flamingo, arXiv 2204.14198",
    options=("vectors", "hidden_dim", "groups"),
)
def resampler(width_in: int, width_out: int, options: Mapping[str, int]) -> nn.Module:
    """Return learned queries that attend to states; `groups` is the number of heads."""
    from statebridge.translators.modules.resampler import Resampler

    return Resampler(
        width_in,
        width_out,
        vectors=options["vectors"],
        hidden=options["hidden_dim"],
        heads=options["groups"],
    )
