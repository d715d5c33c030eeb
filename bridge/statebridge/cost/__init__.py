"""Costs of communication: operations from shapes and lengths, bytes on the wire."""

from __future__ import annotations

from statebridge.cost.flops import (
    Accounting,
    exact_forward,
    exact_partial,
    published_forward,
    published_partial,
)
from statebridge.cost.maps import MapCost, map_cost
from statebridge.cost.methods import (
    Combination,
    ComputeRatio,
    Ledger,
    Lengths,
    MethodCost,
    compute_ratios,
)
from statebridge.cost.shape import LLAMA_3_1_8B, LLAMA_3_2_3B, ModelShape
from statebridge.cost.wire import DTYPE_BYTES, activation_bytes, text_bytes, token_bytes

__all__ = [
    "DTYPE_BYTES",
    "LLAMA_3_1_8B",
    "LLAMA_3_2_3B",
    "Accounting",
    "Combination",
    "ComputeRatio",
    "Ledger",
    "Lengths",
    "MapCost",
    "MethodCost",
    "ModelShape",
    "activation_bytes",
    "compute_ratios",
    "exact_forward",
    "exact_partial",
    "map_cost",
    "published_forward",
    "published_partial",
    "text_bytes",
    "token_bytes",
]
