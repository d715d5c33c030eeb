"""Kinds with hidden layers, as arXiv 2606.03280 has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from statebridge.experiment.translator_settings import translator_kind

if TYPE_CHECKING:
    from torch import nn


@translator_kind("mlp_1hidden", source="arXiv 2606.03280", options=("hidden_dim",))
def mlp_1hidden(width_in: int, width_out: int, options: Mapping[str, int]) -> nn.Module:
    """Return an MLP with one hidden layer of width `hidden_dim` and GELU."""
    return _mlp(1, width_in, width_out, options["hidden_dim"])


@translator_kind("mlp_3hidden", source="arXiv 2606.03280", options=("hidden_dim",))
def mlp_3hidden(width_in: int, width_out: int, options: Mapping[str, int]) -> nn.Module:
    """Return an MLP with three hidden layers of width `hidden_dim` and GELU."""
    return _mlp(3, width_in, width_out, options["hidden_dim"])


def _mlp(hidden_layers: int, width_in: int, width_out: int, hidden: int) -> nn.Module:
    from torch import nn

    from statebridge.translators.modules.maps import linear

    layers: list[nn.Module] = [linear(width_in, hidden)]
    for _ in range(hidden_layers - 1):
        layers += [nn.GELU(), linear(hidden, hidden)]
    return nn.Sequential(*layers, nn.GELU(), linear(hidden, width_out))
