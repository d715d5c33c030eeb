"""Kinds with one product between the widths: affine, of low rank, gated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from statebridge.errors import TranslatorError
from statebridge.experiment.translator_settings import translator_kind

if TYPE_CHECKING:
    from torch import nn


@translator_kind("affine", source="arXiv 2606.03280 (arch `linear`)")
def affine(width_in: int, width_out: int, options: Mapping[str, int]) -> nn.Module:
    """Return W s + b."""
    from statebridge.translators.modules.maps import linear

    return linear(width_in, width_out)


@translator_kind("low_rank", source="reduced-rank regression, Izenman 1975", options=("rank",))
def low_rank(width_in: int, width_out: int, options: Mapping[str, int]) -> nn.Module:
    """Return U V s + b with `rank` directions between V and U."""
    from torch import nn

    from statebridge.translators.modules.maps import linear

    rank = options["rank"]
    if rank > min(width_in, width_out):
        raise TranslatorError(
            f"translator kind low_rank: rank {rank} is above {min(width_in, width_out)}, the "
            f"highest that a map from width {width_in} to {width_out} has; lower it, or take "
            "kind affine"
        )
    return nn.Sequential(linear(width_in, rank, bias=False), linear(rank, width_out))


@translator_kind("gated", source="the residual gate of ReZero, arXiv 2003.04887")
def gated(width_in: int, width_out: int, options: Mapping[str, int]) -> nn.Module:
    """Return gate · (W s + b) with one learned number as the gate."""
    from statebridge.translators.modules.maps import Gated

    return Gated(width_in, width_out)
