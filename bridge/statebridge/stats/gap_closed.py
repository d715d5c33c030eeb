"""The share of the gap between floor and skyline that a private channel closes.

With the receiver alone at the floor and the receiver that reads everything at the skyline,

    share = (channel − floor) / (skyline − floor)

is 0 for a channel that tells nothing and 1 for one that tells all that the receiver could have
read itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from statebridge.errors import ResultError
from statebridge.stats.clustered import Floats, bca_bounds, clustered_interval
from statebridge.stats.comparison import GapClosed, Share
from statebridge.stats.interval import Interval
from statebridge.stats.keyed_random import keyed_generator
from statebridge.stats.pairing import Pairing, is_zero_one
from statebridge.stats.setting import ChannelSetting


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
    gap = pairing.pair(direction, ceiling, floor, metric)
    of_rows = dict(zip(gap.by_row.row_ids, gap.by_row.deltas, strict=True))
    shared = [row_id for row_id in gained.by_row.row_ids if row_id in of_rows]
    if not shared:
        raise ResultError(f"{condition} and {ceiling} ({direction}) have no row in common")
    by_id = dict(zip(gained.by_row.row_ids, gained.by_row.deltas, strict=True))
    part = np.array([by_id[row_id] for row_id in shared])
    total = np.array([of_rows[row_id] for row_id in shared])
    names = ("gap_closed", direction, condition, floor, ceiling, metric)
    whole = clustered_interval(
        total,
        keyed_generator("gap", *names),
        zero_one=is_zero_one(metric),
        level=level,
        resamples=resamples,
    )
    reason = _no_share(whole, level)
    share: Share | None = None
    if reason is None:
        bounds = bca_bounds(
            np.stack([part, total], axis=1), _ratio, keyed_generator(*names), level, resamples
        )
        if any(math.isnan(bound) for bound in bounds):
            reason = "some resamples of the rows hold no gap at all, so a share has no interval"
        else:
            low, high = bounds
            interval = Interval(low=low, high=high, level=level, method="bca_bootstrap")
            share = Share(value=math.fsum(part) / math.fsum(total), interval=interval)
    return GapClosed(
        direction=direction,
        prompt=setting.prompt,
        condition=condition,
        floor=floor,
        ceiling=ceiling,
        metric=metric,
        runs=gained.by_row.runs,
        n_rows=len(shared),
        gap=math.fsum(total) / len(shared),
        gap_interval=whole,
        closed=math.fsum(part) / len(shared),
        share=share,
        no_share_because=reason,
    )


def _ratio(means: Floats) -> Floats:
    part, total = means[..., 0], means[..., 1]
    return np.asarray(np.where(total > 0, part / np.where(total > 0, total, 1.0), np.nan))


def _no_share(whole: Interval | None, level: float) -> str | None:
    if whole is None:
        return "the rows give no interval for the gap"
    if whole.low <= 0:
        return (
            f"the skyline is not clearly above the floor (the gap's {level:.0%} interval starts "
            f"at {whole.low:+.4f}), so a share of the gap means nothing"
        )
    return None
