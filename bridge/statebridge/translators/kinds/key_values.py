"""The kind of map between two models' keys and values, solved for in closed form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from statebridge.experiment.translator_settings import KEY_VALUE_KIND, translator_kind

if TYPE_CHECKING:
    from torch import nn


@translator_kind(
    KEY_VALUE_KIND,
    source="arXiv 2608.03893",
    options=("blocks_in", "blocks_out", "sources", "groups"),
)
def kv_ridge(width_in: int, width_out: int, options: Mapping[str, int]) -> nn.Module:
    """Return affine maps of the sender's keys and values for each block of the receiver."""
    from statebridge.translators.key_value_map import KeyValueMap

    return KeyValueMap(width_in, width_out, **options)
