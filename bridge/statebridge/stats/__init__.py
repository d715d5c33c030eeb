"""Statistics: paired differences from baselines, clustered by row or exactly as published."""

from __future__ import annotations

from statebridge.stats.compare import CONTINUOUS_METRICS, PUBLISHED_METRICS, compare
from statebridge.stats.comparison import (
    Comparison,
    Counts,
    Difference,
    EffectSize,
    Equivalence,
    FailureChain,
    GapClosed,
    Interval,
    MarginVerdict,
    MessageBits,
    Mode,
    SeedDifference,
    Settings,
    Share,
    Stratification,
    Stratum,
    Verdict,
)
from statebridge.stats.information.bits import message_bits

__all__ = [
    "CONTINUOUS_METRICS",
    "PUBLISHED_METRICS",
    "Comparison",
    "Counts",
    "Difference",
    "EffectSize",
    "Equivalence",
    "FailureChain",
    "GapClosed",
    "Interval",
    "MarginVerdict",
    "MessageBits",
    "Mode",
    "SeedDifference",
    "Settings",
    "Share",
    "Stratification",
    "Stratum",
    "Verdict",
    "compare",
    "message_bits",
]
