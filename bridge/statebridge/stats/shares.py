"""Shares of a loss or of a gap, with intervals that resample part and whole together.

The failure chain: replacing the receiver's states loses accuracy. Rescaling the replaced states
to the receiver's norms wins some back: that part was norm mismatch. What is still missing to the
baseline is lost although the norm is right: direction error.

The gap closed: with the receiver alone at the floor and the receiver that reads everything at
the skyline,

    share = (channel − floor) / (skyline − floor)

is 0 for a channel that carries nothing and 1 for one that carries all that the receiver could
have read itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from statebridge.errors import ResultError
from statebridge.records import Direction
from statebridge.stats.comparison import FailureChain, GapClosed, Interval, Share
from statebridge.stats.intervals import Floats, bca_bounds, clustered_interval, keyed_generator
from statebridge.stats.pairing import PairedCondition, Pairing, is_zero_one
from statebridge.stats.setting import ChannelSetting

REPLACED = "replace"
CORRECTED = "scale_corrected"


def failure_chain(
    pairing: Pairing,
    direction: Direction,
    baseline: str,
    metric: str,
    *,
    replaced: str = REPLACED,
    corrected: str = CORRECTED,
    level: float = 0.95,
    resamples: int,
) -> FailureChain:
    """Split the loss from `baseline` to `replaced` at `corrected`, rows as clusters.

    Deltas are averaged over the seeds that both conditions have. The shares' intervals are
    BCa over rows, total and part resampled together.

    Raises:
        ResultError: A condition is missing, or the two have no seed or no row in common.
    """
    of_replaced = pairing.pair(direction, replaced, baseline, metric)
    of_corrected = pairing.pair(direction, corrected, baseline, metric)
    seeds = _shared_seeds(of_replaced, of_corrected)
    replaced_deltas, corrected_deltas = _aligned(of_replaced.over(seeds), of_corrected.over(seeds))
    key = (direction, replaced, corrected, baseline, metric)

    def interval(name: str, deltas: Floats) -> Interval | None:
        return clustered_interval(
            deltas,
            keyed_generator("failure_chain", name, *key),
            zero_one=is_zero_one(metric),
            level=level,
            resamples=resamples,
        )

    total, by_direction = -replaced_deltas, -corrected_deltas
    by_norm = total - by_direction
    total_interval = interval("total", total)
    norm_share, reason = _share(
        by_norm,
        total,
        total_interval,
        keyed_generator("failure_chain", "share", *key),
        words=("total loss", "the total loss is not clearly above zero (its", "it", "loss"),
        resamples=resamples,
        level=level,
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
        total_loss_interval=total_interval,
        norm_loss=math.fsum(by_norm) / len(total),
        norm_loss_interval=interval("norm", by_norm),
        direction_loss=math.fsum(by_direction) / len(total),
        direction_loss_interval=interval("direction", by_direction),
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
    resamples: int,
) -> list[GapClosed]:
    """Return the share that each condition of a private setting closes, by each metric.

    Nothing where the setting has no skyline. A metric of which either bound has no value is
    left out, as is a rank or a divergence, whose means say little of a share.
    """
    if setting.ceiling is None:
        return []
    others = sorted(setting.conditions - {setting.floor, setting.ceiling})
    bounds = (setting.floor, setting.ceiling)
    return [
        _gap_closed(pairing, setting, condition, metric, level, resamples)
        for metric in metrics
        if is_zero_one(metric) or metric == "gold_logprob"
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
    resamples: int,
) -> GapClosed:
    direction, floor, ceiling = setting.direction, setting.floor, str(setting.ceiling)
    gained = pairing.pair(direction, condition, floor, metric)
    part, total = _aligned(gained, pairing.pair(direction, ceiling, floor, metric))
    names = ("gap_closed", direction, condition, floor, ceiling, metric)
    whole = clustered_interval(
        total,
        keyed_generator("gap", *names),
        zero_one=is_zero_one(metric),
        level=level,
        resamples=resamples,
    )
    share, reason = _share(
        part,
        total,
        whole,
        keyed_generator(*names),
        words=("gap", "the skyline is not clearly above the floor (the gap's", "the gap", "gap"),
        resamples=resamples,
        level=level,
    )
    return GapClosed(
        direction=direction,
        prompt=setting.prompt,
        condition=condition,
        floor=floor,
        ceiling=ceiling,
        metric=metric,
        runs=gained.by_row.runs,
        n_rows=len(total),
        gap=math.fsum(total) / len(total),
        gap_interval=whole,
        closed=math.fsum(part) / len(total),
        share=share,
        no_share_because=reason,
    )


def _share(
    part: Floats,
    total: Floats,
    whole: Interval | None,
    generator: np.random.Generator,
    *,
    words: tuple[str, str, str, str],
    level: float,
    resamples: int,
) -> tuple[Share | None, str | None]:
    """The share of the total that the part is, or None and why there is none.

    `part` and `total` have shape (rows,); `whole` is the interval of the total's mean.
    """
    name, unclear, it, kind = words
    if whole is None:
        return None, f"the rows give no interval for the {name}"
    if whole.low <= 0:
        return None, (
            f"{unclear} {level:.0%} interval starts at {whole.low:+.4f}), so a share of {it} means "
            "nothing"
        )
    low, high = bca_bounds(np.stack([part, total], axis=1), _ratio, generator, level, resamples)
    if math.isnan(low) or math.isnan(high):
        return None, (
            f"some resamples of the rows hold no {kind} at all, so a share has no interval"
        )
    interval = Interval(low=low, high=high, level=level, method="bca_bootstrap")
    return Share(value=math.fsum(part) / math.fsum(total), interval=interval), None


def _ratio(means: Floats) -> Floats:
    """Part over total, means of shape (..., 2); NaN where the total is not above zero."""
    part, total = means[..., 0], means[..., 1]
    return np.asarray(np.where(total > 0, part / np.where(total > 0, total, 1.0), np.nan))


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
