"""The result of a comparison, as plain records that write themselves as JSON."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from statebridge.errors import ResultError
from statebridge.experiment.conditions import Prompt
from statebridge.experiment.declared import NameIn
from statebridge.records import Direction, Record
from statebridge.registry import Registry
from statebridge.scoring.measures import MEASURES
from statebridge.stats.comparison_html import differences_html

if TYPE_CHECKING:
    from statebridge.stats.pairing import PairedCondition

IntervalMethod = Literal[
    "mover_mid_p",
    "mover_exact",
    "proportion_exact",
    "median_order_statistics",
    "fieller_mid_p",
    "pooled_percentile_bootstrap",
    "tost_normal",
]
"""How an interval was made; each is described where it is computed.

`mover_mid_p`, `mover_exact` (equivalence tests), `proportion_exact` (nearly all rows move to one
side): of the mean of a metric from 0 to 1, rows as clusters (`statebridge.stats.inference.means`).
`median_order_statistics`: of the median row of a metric without bounds
(`statebridge.stats.inference.medians`). `fieller_mid_p`: of a share (`statebridge.stats.shares`).
`pooled_percentile_bootstrap`: as published, seeds of a row taken as
independent (`statebridge.papers.linear_translation.bootstrap`). `tost_normal`: the interval that
the published equivalence test amounts to.
"""

HoldsFor = Literal["rows", "rows_and_seeds", "lanes"]
"""Scope of an interval: `rows`, other rows under these seeds; `rows_and_seeds`, other rows
under other seeds; `lanes`, as if each row under each seed were a row of its own."""

Verdict = Literal[
    "better", "worse", "higher", "lower", "different_within", "equivalent", "inconclusive"
]
"""`better`, `worse`: different after Holm's correction, by the side that is better for the metric
(for a rank or a divergence, lower); `higher`, `lower` for a metric without such a side.
`different_within`: different, and within a declared margin. `equivalent`: within a declared
margin, and not different even before the correction. `inconclusive`: neither.
"""
PMethod = Literal[
    "exact_mcnemar",
    "exact_mcnemar_over_seeds",
    "mcnemar_continuity_corrected",
    "mcnemar_continuity_corrected_min_over_seeds",
    "exact_sign_test",
    "mover_exact",
]
"""The test of no difference. `exact_sign_test`: as many rows improve as get worse, of a metric
without bounds. `mover_exact`: by the limits of the mean of a metric from 0 to 1."""
CentreName = Literal["mean", "median"]


def measures_change(metric: str) -> bool:
    """Whether a metric is a distance from what the receiver does when nothing is written.

    It is zero there by definition, and above zero wherever anything changes at all, so its
    difference from that baseline is not tested.
    """
    return metric in ("kl_from_no_inject", "prediction_changed")


def better_sign(metric: str) -> int:
    """Return -1 where a lower value is better, as of a rank or a distance; otherwise 1."""
    return -1 if MEASURES[metric].better == "lower" or measures_change(metric) else 1


@dataclass(frozen=True, slots=True)
class ComparisonMode:
    """A way to compare conditions with baselines."""

    metrics: tuple[str, ...]
    """Compared where no metric is asked for and the results hold it."""
    differences: Callable[[Sequence[PairedCondition], Settings], list[Difference]]
    extended: bool = False
    """Whether the comparison also has strata, failure chains, shares of the gap, and own rows
    against others'; ranks are then compared as logarithms."""


MODES: Registry[ComparisonMode] = Registry(
    "comparison mode",
    package="statebridge.papers",
    module="comparison",
    group="statebridge.comparison_modes",
    error=ResultError,
)
Mode = Annotated[str, NameIn(MODES)]
"""`clustered` (rows as clusters, the default), or the mode of a paper."""
NEGLIGIBLE_NATS = 0.1
"""Negligible change of a log-probability: the answer's probability changes by a tenth."""
RELATIVE_MARGIN = 0.2
"""The 80 % of the rule of bioequivalence (80 to 125 % of the reference)."""
PERMUTATIONS = 1999
PROMPT_LENGTH = "prompt_length"
ATTRIBUTES = ("hops", "domain", "answer_type", PROMPT_LENGTH)
"""Attributes that a comparison is stratified by unless others are given."""


class Settings(Record):
    """The choices of a comparison; the defaults are what the guide describes."""

    margins: tuple[Annotated[float, Field(gt=0)], ...] = (0.05, 0.03)
    """Equivalence margins of 0/1 metrics, on the scale of the metric's mean."""
    relative_margin: Annotated[float, Field(gt=0, le=1)] = RELATIVE_MARGIN
    """Share of the baseline's mean within which a 0/1 metric must lie as well to be equivalent."""
    continuous_margins: dict[str, tuple[Annotated[float, Field(gt=0)], ...]] = {  # noqa: RUF012 - pydantic copies it
        "gold_logprob": (NEGLIGIBLE_NATS,)
    }
    """Sizes in its units below which a row's change of a metric without bounds is negligible."""
    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    level: Annotated[float, Field(gt=0, lt=1)] = 0.95
    """Level of the default mode's intervals; the published mode's are 95 % intervals."""
    power: Annotated[float, Field(gt=0, lt=1)] = 0.80
    stratify_by: tuple[str, ...] = ATTRIBUTES
    permutations: Annotated[int, Field(ge=99)] = PERMUTATIONS

    def margins_for(self, metric: str, *, zero_one: bool) -> tuple[float, ...]:
        """The margins declared for a metric; may be empty. Of equivalence, where it has bounds."""
        if metric in self.continuous_margins:
            return self.continuous_margins[metric]
        return self.margins if zero_one else ()


_SCOPES: dict[HoldsFor, str] = {
    "rows": "other rows with these seeds",
    "rows_and_seeds": "other rows and other seeds",
    "lanes": "other rows, if seeds of one row were rows of their own",
}


class Interval(Record):
    """A confidence interval, in the units of its metric."""

    low: float
    high: float
    level: float
    """Nominal coverage, such as 0.95."""
    method: IntervalMethod
    holds_for: HoldsFor = "rows"

    @property
    def scope(self) -> str:
        """Rows and seeds that the interval holds for, in words."""
        return _SCOPES[self.holds_for]

    def excludes(self, value: float) -> bool:
        """Whether `value` lies outside."""
        return not self.low <= value <= self.high


class MarginVerdict(Record):
    """Whether the difference was shown to lie within ± margin."""

    margin: float
    p: float
    equivalent: bool
    """Whether p, or `p_holm` where there is one, is below alpha."""
    p_holm: float | None = None
    """Corrected as the difference's own p is; None in published mode."""


class Equivalence(Record):
    """The outcome of TOST over one or more margins."""

    alpha: float
    interval: Interval
    """At level 1 - 2 alpha, which a sentence about it must name; a margin is met exactly where
    this lies inside it."""
    margins: tuple[MarginVerdict, ...]
    ruled_out: float
    """The smallest margin met at `alpha`: any larger true difference is ruled out, by the
    interval here (level 1 - 2 alpha) and not by that of the difference."""
    relative_margin: float | None = None
    """Share of the baseline's mean that was tested as a margin too; 0/1 metrics only."""
    relative_p: float | None = None
    """p that the difference is beyond it; corrected as the margins' p is."""

    @property
    def within_relative(self) -> bool:
        """Whether the relative margin, where there is one, is met."""
        return self.relative_p is None or self.relative_p < self.alpha


class Counts(Record):
    """Rows (over all runs) by whether the condition did better, worse or the same."""

    gained: int
    """0/1 metric: right under the condition only; continuous: better than the baseline, which
    for a rank or a divergence is lower."""
    lost: int
    tied: int
    tied_correct: int | None = None
    """0/1 metrics only: right under both."""
    tied_wrong: int | None = None


class EffectSize(Record):
    """How large the difference is, and how small a one could have been found."""

    cohens_dz: float | None
    """Mean row delta over its standard deviation; None where deltas do not vary."""
    discordant_odds_ratio: float | None
    """0/1 metrics: gained / lost over all runs; None where nothing was lost."""
    minimal_detectable: float | None
    """The smallest true delta found with `power` at this n, in the metric's units, by the
    difference's own test at alpha over the number of tests of its family."""
    power: float


class SeedDifference(Record):
    """One run of a condition against its baseline."""

    seed: int | None
    n: int
    mean: float
    baseline_mean: float
    delta: float
    """Difference of this run, as that of all runs together."""
    interval: Interval | None
    counts: Counts
    p: float | None
    """None where the data give no test (deltas without bounds that are all the same)."""
    p_method: PMethod | None


class Difference(Record):
    """One condition against one baseline, for one metric, over all its runs."""

    direction: Direction
    condition: str
    baseline: str
    metric: str
    seeds: tuple[int | None, ...]
    runs: int
    n_rows: int
    """Rows: the clusters."""
    n_pooled: int
    """Rows times runs (383 x 3 = 1,149 for the strict control)."""
    mean: float
    baseline_mean: float
    delta: float
    """Condition less baseline, each row's seeds averaged first: the `centre` of the rows' deltas.
    A median is not the difference of the two means."""
    standard_error: float | None
    """Standard error of a clustered mean; None of a median, for one row, and in published mode."""
    interval: Interval | None
    """None where the data give none; `warnings` says why."""
    counts: Counts
    p: float | None
    p_method: PMethod | None
    p_holm: float | None
    """Corrected over the `family` of tests: the conditions compared with this baseline by this
    metric, or all channels of a setting that are compared with another row's state."""
    effect: EffectSize | None
    equivalence: Equivalence | None
    """None in the absence of declared margins for this metric, or of bounds."""
    same_sign_in_every_seed: bool
    """Whether all runs' deltas are above zero, or all below."""
    verdict: Verdict | None
    """None in published mode, and where `no_verdict_because` states why."""
    by_seed: tuple[SeedDifference, ...]
    warnings: tuple[str, ...]
    interval_over_seeds: Interval | None = None
    """Interval for other rows and other seeds; `interval` is for other rows with these seeds."""
    no_interval_over_seeds_because: str | None = None
    centre: CentreName = "mean"
    """Kind of `delta` and its interval: the mean of the rows' deltas, for a metric from 0 to 1, or
    their median, for one without bounds (`stats.inference.medians`)."""
    family: int | None = None
    """Number of tests that `p_holm` is corrected over."""
    no_verdict_because: str | None = None

    @property
    def equivalent_within(self) -> float | None:
        """The smallest declared margin that the difference was shown to lie within.

        None where it was not shown to lie within the share of the baseline's mean as well.
        """
        met = self.met_margin
        return met if self.equivalence is not None and self.equivalence.within_relative else None

    @property
    def met_margin(self) -> float | None:
        """The smallest declared margin that was met, whatever share of the baseline it is."""
        if self.equivalence is None:
            return None
        return min((m.margin for m in self.equivalence.margins if m.equivalent), default=None)

    @property
    def is_better(self) -> bool:
        """Whether the condition was shown to be better than the baseline, by however little."""
        return self._shown and self.more_better

    @property
    def is_worse(self) -> bool:
        """Whether the condition was shown to be worse than the baseline, by however little."""
        return self._shown and not self.more_better

    @property
    def more_better(self) -> bool:
        """Whether the condition is on the better side, however little is shown.

        By the counts where the median row does not move but others do.
        """
        if self.delta == 0:
            return self.counts.gained > self.counts.lost
        return better_sign(self.metric) * self.delta > 0

    @property
    def _shown(self) -> bool:
        return self.verdict in ("better", "worse", "higher", "lower", "different_within")


class Stratum(Record):
    """The difference within one stratum."""

    label: str
    n_rows: int
    mean: float
    baseline_mean: float
    delta: float
    interval: Interval | None


class Stratification(Record):
    """A difference by strata, and whether it differs between them (the interaction)."""

    direction: Direction
    condition: str
    baseline: str
    metric: str
    attribute: str
    strata: tuple[Stratum, ...]
    unlabelled_rows: int
    """Rows without a value of the attribute; left out."""
    interaction_p: float | None
    """Permutation test that the delta does not depend on the stratum."""
    interaction_p_holm: float | None
    """Corrected over the conditions and attributes of this direction, baseline and metric."""
    permutations: int
    no_interaction_because: str | None = None
    """Why there is no test: one stratum, too few rows, or a metric without bounds."""


class Share(Record):
    """A share of the total loss; 1 is all of it."""

    value: float
    interval: Interval


class FailureChain(Record):
    """The loss of replacing states, and how much of it the right norm wins back.

    replace --(norm mismatch)--> scale_corrected --(direction error)--> baseline

    The parts are those of this order of steps. Had the direction been mended first, they would
    be others, so neither is the cause of its share.
    """

    direction: Direction
    baseline: str
    replaced: str
    corrected: str
    metric: str
    seeds: tuple[int | None, ...]
    n_rows: int
    total_loss: float
    """Baseline less `replaced`."""
    total_loss_interval: Interval | None
    norm_loss: float
    """`corrected` less `replaced`: what giving the state its proper norm wins back."""
    norm_loss_interval: Interval | None
    direction_loss: float
    """Baseline less `corrected`: what is lost although the norm is right."""
    direction_loss_interval: Interval | None
    norm_share: Share | None
    direction_share: Share | None
    no_shares_because: str | None
    """Why the shares are None: the total loss is not clearly above zero, or has no limits."""


class GapClosed(Record):
    """The part of the gap from floor to skyline that a channel of a private setting closes."""

    direction: Direction
    prompt: str
    """Prompt of the receiver: `question_only` or `placeholder`."""
    condition: str
    floor: str
    """The receiver alone."""
    ceiling: str
    """The skyline: the receiver that reads everything."""
    metric: str
    runs: int
    n_rows: int
    gap: float
    """Skyline less floor: the mean of the rows, or the median of a metric without bounds."""
    gap_interval: Interval | None
    closed: float
    """Condition less floor, each row's runs (seeds) averaged first; mean or median as `gap`."""
    share: Share | None
    """Share of the gap: 0 is nothing, 1 as much as the context itself; below 0 it does harm."""
    no_share_because: str | None
    """Why the share is None: the gap is not clearly above zero, the share has no limits, or the
    metric no bounds."""


class Estimate(Record):
    """The median over rows, with its interval, and the mean, which has none."""

    value: float
    """Median row."""
    interval: Interval | None
    """Interval of the median; None where there are too few rows."""
    mean: float
    n_rows: int


class MessageBits(Record):
    """Information that one condition's messages give the receiver, in bits a message."""

    direction: Direction
    prompt: Prompt
    """Prompt of the receiver, which names the setting."""
    condition: str
    floor: str
    bits: Estimate
    """Above the floor of the setting."""
    control: str | None
    """The condition that writes another row's state the same way, where there is one."""
    own: Estimate | None
    """Part that belongs to the row: above the control."""
    unseen: Estimate | None
    """Bits over the rows whose answers the condition's map has not seen; None where nothing is
    known of that, or there is no such row."""
    unseen_own: Estimate | None
    sent_bytes: float | None
    """Mean over rows; None where nothing is sent, or the results do not say how much."""
    per_kilobyte: Estimate | None
    """Bits of a row over its kilobytes (1,000 bytes) sent; its mean is mean bits over mean
    kilobytes."""
    gigaflop: float | None
    """Mean operations of both models for a row, in 10⁹: exact count, with a cache."""
    per_gigaflop: Estimate | None


class Comparison(Record):
    """Conditions against baselines, and all that follows from it."""

    mode: Mode
    settings: Settings
    baselines: tuple[str, ...]
    metrics: tuple[str, ...]
    differences: tuple[Difference, ...]
    stratifications: tuple[Stratification, ...]
    failure_chains: tuple[FailureChain, ...]
    gaps_closed: tuple[GapClosed, ...] = ()
    """Gaps of private settings, under the default mode."""
    bits: tuple[MessageBits, ...] = ()
    """Bits of every condition's messages above its floor, where no baseline was given and the
    gold answer's log-probability is compared."""
    own_rows: tuple[Difference, ...] = ()
    """Each channel against its control that writes another row's state the same way, under the
    default mode; corrected over all such pairs of a setting and metric."""
    warnings: tuple[str, ...]
    """Warnings about the data, each once: rows left out, runs that are not complete, mixed
    settings. A warning about one difference alone is with that difference."""

    def _repr_html_(self) -> str:
        return differences_html(self.differences)

    def difference(
        self, condition: str, baseline: str, metric: str, direction: Direction = "fwd"
    ) -> Difference | None:
        """Return one difference, or None."""
        for found in self.differences:
            names = (found.condition, found.baseline, found.metric, found.direction)
            if names == (condition, baseline, metric, direction):
                return found
        return None
