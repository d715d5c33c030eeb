"""The failure chain: what share of a replacement's loss is norm mismatch, what direction.

Replacing the receiver's states loses accuracy. Rescaling the replaced states to the
receiver's norms wins some back: that part was norm mismatch. What is still missing to the
baseline is lost although the norm is right: direction error.
"""

from __future__ import annotations

import math

import numpy as np

from statebridge.errors import ResultError
from statebridge.records import Direction
from statebridge.stats.clustered import Floats, bca_bounds, clustered_interval
from statebridge.stats.comparison import FailureChain, Share
from statebridge.stats.interval import Interval
from statebridge.stats.keyed_random import keyed_generator
from statebridge.stats.pairing import PairedCondition, Pairing, is_zero_one

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
    row_ids, replaced_deltas, corrected_deltas = _aligned(of_replaced, of_corrected, seeds)

    def interval(name: str, deltas: Floats) -> Interval | None:
        return clustered_interval(
            deltas,
            keyed_generator(
                "failure_chain", name, direction, replaced, corrected, baseline, metric
            ),
            zero_one=is_zero_one(metric),
            level=level,
            resamples=resamples,
        )

    total, by_direction = -replaced_deltas, -corrected_deltas
    by_norm = total - by_direction
    total_interval = interval("total", total)
    reason = _no_shares(total_interval, level)
    norm_share = direction_share = None
    if reason is None:
        low, high = bca_bounds(
            np.stack([by_norm, total], axis=1),
            _share_of_total,
            keyed_generator(
                "failure_chain", "share", direction, replaced, corrected, baseline, metric
            ),
            level,
            resamples,
        )
        value = math.fsum(by_norm) / math.fsum(total)
        if math.isnan(low) or math.isnan(high):
            reason = "some resamples of the rows hold no loss at all, so a share has no interval"
        else:
            norm_share = _share(value, low, high, level)
            direction_share = _share(1.0 - value, 1.0 - high, 1.0 - low, level)
    return FailureChain(
        direction=direction,
        baseline=baseline,
        replaced=replaced,
        corrected=corrected,
        metric=metric,
        seeds=seeds,
        n_rows=len(row_ids),
        total_loss=math.fsum(total) / len(row_ids),
        total_loss_interval=total_interval,
        norm_loss=math.fsum(by_norm) / len(row_ids),
        norm_loss_interval=interval("norm", by_norm),
        direction_loss=math.fsum(by_direction) / len(row_ids),
        direction_loss_interval=interval("direction", by_direction),
        norm_share=norm_share,
        direction_share=direction_share,
        no_shares_because=reason,
    )


def _share_of_total(means: Floats) -> Floats:
    """Part over total, means of shape (..., 2); NaN where there is no loss to share out."""
    part, total = means[..., 0], means[..., 1]
    return np.asarray(np.where(total > 0, part / np.where(total > 0, total, 1.0), np.nan))


def _share(value: float, low: float, high: float, level: float) -> Share:
    return Share(
        value=value, interval=Interval(low=low, high=high, level=level, method="bca_bootstrap")
    )


def _no_shares(total: Interval | None, level: float) -> str | None:
    if total is None:
        return "the rows give no interval for the total loss"
    if total.low <= 0:
        return (
            f"the total loss is not clearly above zero (its {level:.0%} interval starts at "
            f"{total.low:+.4f}), so a share of it means nothing"
        )
    return None


def _shared_seeds(first: PairedCondition, second: PairedCondition) -> tuple[int | None, ...]:
    other = {run.seed for run in second.runs}
    shared = tuple(run.seed for run in first.runs if run.seed in other)
    if not shared:
        raise ResultError(
            f"{first.condition} and {second.condition} ({first.direction}) have no seed in "
            "common; the failure chain compares them seed by seed"
        )
    return shared


def _aligned(
    first: PairedCondition, second: PairedCondition, seeds: tuple[int | None, ...]
) -> tuple[tuple[str, ...], Floats, Floats]:
    """Both conditions' row deltas over the same seeds and rows, sorted by row id."""
    rows = [condition.over(seeds).by_row for condition in (first, second)]
    shared = sorted(set(rows[0].row_ids) & set(rows[1].row_ids))
    if not shared:
        raise ResultError(
            f"{first.condition} and {second.condition} ({first.direction}) have no row in common"
        )
    columns = []
    for clustered in rows:
        by_id = dict(zip(clustered.row_ids, clustered.deltas, strict=True))
        columns.append(np.array([by_id[row_id] for row_id in shared]))
    return tuple(shared), columns[0], columns[1]
