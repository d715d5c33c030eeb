"""An interval and how it was made."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

IntervalMethod = Literal[
    "studentised_bootstrap",
    "bca_bootstrap",
    "adjusted_wald",
    "exact_binomial",
    "pooled_percentile_bootstrap",
    "tost_skewness_corrected",
    "tost_normal",
]
"""How an interval was made; each is described where it is computed.

`studentised_bootstrap`, `bca_bootstrap`, `adjusted_wald`, `exact_binomial`: rows are the
clusters (`statebridge.stats.clustered`). `pooled_percentile_bootstrap`: as published, seeds
of a row taken as independent (`statebridge.stats.bootstrap`). `tost_*`: the interval that an
equivalence test amounts to (`statebridge.stats.equivalence`).
"""


class Interval(BaseModel):
    """A confidence interval, in the units of its metric."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    low: float
    high: float
    level: float
    """Nominal coverage, such as 0.95."""
    method: IntervalMethod

    def excludes(self, value: float) -> bool:
        """Whether `value` lies outside."""
        return not self.low <= value <= self.high
