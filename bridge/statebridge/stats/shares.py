"""Shares of a loss or of a gap, with Fieller's intervals.

The failure chain: replacing the receiver's states loses accuracy. Rescaling the replaced states
to the receiver's norms wins some back; that part is named norm mismatch. What is still missing to
the baseline is lost although the norm is right, and is named direction error. These are the parts
of this order of steps, not of two causes.

The gap closed: with the receiver alone at the floor and the receiver that reads everything at
the skyline,

    share = (channel − floor) / (skyline − floor)

is 0 for a channel that carries nothing and 1 for one that carries all that the receiver could
have read itself.

The interval of a share holds every share at which the mean of part − share × whole may be zero, by
the same method as the interval of the part (`statebridge.stats.inference.means`). A share is
therefore clear of 0 exactly where the difference from the floor is, and clear of 1 exactly where
the difference from the ceiling is.

The share of a metric without bounds is a ratio of two means, of which neither has an interval that
holds, so there is none. Where the whole is less than `LEAST_ERRORS` standard errors above zero
there is no share either: its interval would be of any width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from statebridge.errors import ResultError
from statebridge.records import Direction
from statebridge.scoring.measures import MEASURES
from statebridge.stats.comparison import FailureChain, GapClosed, Interval, Share
from statebridge.stats.inference.intervals import (
    Floats,
    centre_value,
    clustered_interval,
    mean_and_sd,
)
from statebridge.stats.inference.means import BoundedMean, ratio_limits
from statebridge.stats.pairing import PairedCondition, Pairing, is_bounded
from statebridge.stats.setting import ChannelSetting

REPLACED = "replace"
CORRECTED = "scale_corrected"
LEAST_ERRORS = 4.0
"""Standard errors that a gap or loss must be above zero for a share of it to be given."""


def failure_chain(
    pairing: Pairing,
    direction: Direction,
    baseline: str,
    metric: str,
    *,
    replaced: str = REPLACED,
    corrected: str = CORRECTED,
    level: float = 0.95,
) -> FailureChain:
    """Split the loss from `baseline` to `replaced` at `corrected`, rows as clusters.

    Deltas are averaged over the seeds that both conditions have.

    Raises:
        ResultError: A condition is missing, the two have no seed or no row in common, or the metric
            has no bounds: its losses are medians, which do not add up.
    """
    if not is_bounded(metric):
        raise ResultError(f"{metric} has no bounds, so its losses do not add up; give another one")
    of_replaced = pairing.pair(direction, replaced, baseline, metric)
    of_corrected = pairing.pair(direction, corrected, baseline, metric)
    seeds = _shared_seeds(of_replaced, of_corrected)
    replaced_deltas, corrected_deltas = _aligned(of_replaced.over(seeds), of_corrected.over(seeds))

    def interval(deltas: Floats) -> Interval | None:
        return clustered_interval(deltas, bounded=True, level=level)

    total, by_direction = -replaced_deltas, -corrected_deltas
    by_norm = total - by_direction
    norm_share, reason = share_of(
        by_norm,
        total,
        level=level,
        unclear="the total loss is not clearly above zero",
    )
    direction_share = None
    if norm_share is not None:
        ends = norm_share.interval
        rest = ends.model_copy(update={"low": 1.0 - ends.high, "high": 1.0 - ends.low})
        direction_share = Share(value=1.0 - norm_share.value, interval=rest)
    return FailureChain(
        direction=direction,
        baseline=baseline,
        replaced=replaced,
        corrected=corrected,
        metric=metric,
        seeds=seeds,
        n_rows=len(total),
        total_loss=math.fsum(total) / len(total),
        total_loss_interval=interval(total),
        norm_loss=math.fsum(by_norm) / len(total),
        norm_loss_interval=interval(by_norm),
        direction_loss=math.fsum(by_direction) / len(total),
        direction_loss_interval=interval(by_direction),
        norm_share=norm_share,
        direction_share=direction_share,
        no_shares_because=reason,
    )


def gaps_closed(
    pairing: Pairing,
    setting: ChannelSetting,
    metrics: Sequence[str],
    *,
    level: float,
) -> list[GapClosed]:
    """Return the share that each condition of a private setting closes, by each metric.

    Nothing where the setting has no skyline. A metric of which either bound has no value is
    left out, as is a rank or a divergence. The log-probability of gold has a gap and no share.
    """
    if setting.ceiling is None:
        return []
    others = sorted(setting.conditions - {setting.floor, setting.ceiling})
    bounds = (setting.floor, setting.ceiling)
    return [
        _gap_closed(pairing, setting, condition, metric, level)
        for metric in metrics
        if MEASURES[metric].better == "higher" and (is_bounded(metric) or metric == "gold_logprob")
        if all(pairing.has_values(setting.direction, name, metric) for name in bounds)
        for condition in others
        if pairing.has_values(setting.direction, condition, metric)
    ]


def _gap_closed(
    pairing: Pairing,
    setting: ChannelSetting,
    condition: str,
    metric: str,
    level: float,
) -> GapClosed:
    direction, floor, ceiling = setting.direction, setting.floor, str(setting.ceiling)
    gained = pairing.pair(direction, condition, floor, metric)
    part, total = _aligned(gained, pairing.pair(direction, ceiling, floor, metric))
    bounded = is_bounded(metric)
    share: Share | None = None
    reason: str | None = _NO_BOUNDS
    if bounded:
        unclear = "the skyline is not clearly above the floor"
        share, reason = share_of(part, total, level=level, unclear=unclear)
    return GapClosed(
        direction=direction,
        prompt=setting.prompt,
        condition=condition,
        floor=floor,
        ceiling=ceiling,
        metric=metric,
        runs=gained.by_row.runs,
        n_rows=len(total),
        gap=centre_value(total, bounded=bounded),
        gap_interval=clustered_interval(total, bounded=bounded, level=level),
        closed=centre_value(part, bounded=bounded),
        share=share,
        no_share_because=reason,
    )


_NO_BOUNDS = "the metric has no bounds, so no interval of its mean holds, nor of a ratio of two"


def share_of(
    part: Floats,
    whole: Floats,
    *,
    level: float = 0.95,
    unclear: str = "the whole is not clearly above zero",
) -> tuple[Share | None, str | None]:
    """Return the share that the mean of `part` is of the mean of `whole`, both shape (rows,).

    Both are deltas of a metric from 0 to 1.

    Returns:
        The share with its interval and None, or None and the reason why there is none.
    """
    if len(whole) < 2:
        return None, "one row gives no interval of a share"
    mean, sd = mean_and_sd(whole)
    errors = mean * math.sqrt(len(whole)) / sd if sd > 0 else math.copysign(math.inf, mean)
    if mean <= 0 or errors < LEAST_ERRORS:
        shown = f"{errors:.1f}".replace("-", "−")
        return None, (
            f"{unclear}: it is {shown} standard errors from zero, and a share needs "
            f"{LEAST_ERRORS:g}"
            if mean
            else f"{unclear}: the two have the same mean"
        )
    value = math.fsum(part) / math.fsum(whole)
    limits = ratio_limits(lambda share: bounded_rest(part, whole, share), value, level)
    if limits is None:
        return None, "the rows give no limits for the share"
    interval = Interval(low=limits[0], high=limits[1], level=level, method="fieller_mid_p")
    return Share(value=value, interval=interval), None


def bounded_rest(part: Floats, whole: Floats, share: float) -> BoundedMean:
    """Return the mean of the part less a share of the whole, of a bounded metric."""
    rest = part - share * whole
    # Rows of the gap move by as much; others may move by more, and then the scale is theirs.
    scale = max(abs(share), abs(1.0 - share), float(np.abs(rest).max()))
    return BoundedMean(rest, scale=scale)


def _shared_seeds(first: PairedCondition, second: PairedCondition) -> tuple[int | None, ...]:
    other = {run.seed for run in second.runs}
    shared = tuple(run.seed for run in first.runs if run.seed in other)
    if not shared:
        raise ResultError(
            f"{first.condition} and {second.condition} ({first.direction}) have no seed in "
            "common; the failure chain compares them seed by seed"
        )
    return shared


def _aligned(first: PairedCondition, second: PairedCondition) -> tuple[Floats, Floats]:
    """Both conditions' row deltas over the rows that both hold, sorted by row id, (rows,) each."""
    rows = (first.by_row, second.by_row)
    shared = sorted(set(rows[0].row_ids) & set(rows[1].row_ids))
    if not shared:
        raise ResultError(
            f"{first.condition} and {second.condition} ({first.direction}) have no row in common"
        )
    by_id = [dict(zip(one.row_ids, one.deltas, strict=True)) for one in rows]
    part, total = (np.array([deltas[row_id] for row_id in shared]) for deltas in by_id)
    return part, total
