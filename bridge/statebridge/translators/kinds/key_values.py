"""The kinds between two models' keys and values: a map in closed form, and fusers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from statebridge.experiment.translator_settings import (
    FUSER_KIND,
    KEY_VALUE_KIND,
    translator_kind,
)

if TYPE_CHECKING:
    from torch import nn


@translator_kind(
    KEY_VALUE_KIND,
    source="arXiv 2608.03893",
    options=("blocks_in", "blocks_out", "sources", "groups"),
)
def kv_ridge(width_in: int, width_out: int, options: Mapping[str, int]) -> nn.Module:
    """Return affine maps of the sender's keys and values for each block of the receiver."""
    from statebridge.translators.modules.key_value_map import KeyValueMap

    return KeyValueMap(width_in, width_out, **options)


@translator_kind(
    FUSER_KIND,
    source="C2C, arXiv 2510.03215",
    options=("hidden_dim", "inner_dim", "blocks_out", "groups"),
)
def fuser(width_in: int, width_out: int, options: Mapping[str, int]) -> nn.Module:
    """Return fusers of a block's keys and values, for each block of the receiver."""
    from statebridge.translators.modules.fuser import CacheFuser

    return CacheFuser(
        width_in,
        width_out,
        blocks=options["blocks_out"],
        heads=options["groups"],
        hidden=options["hidden_dim"],
        inner=options["inner_dim"],
    )
