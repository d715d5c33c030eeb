"""One condition against one baseline as published: runs pooled, percentile bootstrap.

Deltas of all runs are concatenated in the order of the published file names and resampled as
if they were independent; McNemar's test has the continuity correction; equivalence is that of
the later reanalysis (rows averaged over seeds, normal reference). Source: arXiv 2606.03280.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from os import cpu_count

import numpy as np

from statebridge.papers.linear_translation.bootstrap import (
    PUBLISHED_RESAMPLES,
    published_interval,
    stable_seed,
)
from statebridge.papers.linear_translation.result_reader import published_file_name
from statebridge.stats.compare import PUBLISHED_METRICS
from statebridge.stats.comparison import (
    MODES,
    ComparisonMode,
    Difference,
    Interval,
    SeedDifference,
    Settings,
)
from statebridge.stats.difference import add_counts, run_counts, same_sign
from statebridge.stats.inference.hypothesis_tests import (
    continuity_corrected_mcnemar,
    published_tost,
)
from statebridge.stats.inference.intervals import Floats
from statebridge.stats.pairing import PairedCondition, PairedRun, is_zero_one

_LEVEL = 0.95
_MOST_THREADS = 8


def published_differences(pairs: Sequence[PairedCondition], settings: Settings) -> list[Difference]:
    """Return the published numbers of each paired condition, in the order given."""
    pairs = [_in_file_order(paired) for paired in pairs]
    tasks = [task for paired in pairs for task in _tasks(paired)]
    # Each draws its resamples in numpy, which leaves Python to other threads meanwhile.
    with ThreadPoolExecutor(min(_MOST_THREADS, cpu_count() or 1)) as pool:
        intervals = pool.map(_interval, tasks)
        return [_difference(paired, intervals, settings) for paired in pairs]


MODES.add("published")(ComparisonMode(PUBLISHED_METRICS, published_differences))


def _in_file_order(paired: PairedCondition) -> PairedCondition:
    return replace(
        paired, runs=tuple(sorted(paired.runs, key=lambda run: published_file_name(run.cell)))
    )


def _tasks(paired: PairedCondition) -> Iterator[tuple[Floats, int]]:
    """Deltas and seed of each run's bootstrap, then of the pooled one."""
    names = (paired.baseline, paired.metric)
    for run in paired.runs:
        yield run.deltas, stable_seed(paired.condition, run.cell.seed, *names)
    pooled = np.concatenate([run.deltas for run in paired.runs])
    yield pooled, stable_seed("pooled", paired.condition, *names)


def _interval(task: tuple[Floats, int]) -> Interval:
    low, high = published_interval(*task, PUBLISHED_RESAMPLES)
    return Interval(
        low=low,
        high=high,
        level=_LEVEL,
        method="pooled_percentile_bootstrap",
        holds_for="lanes",
    )


def _difference(
    paired: PairedCondition, intervals: Iterator[Interval], settings: Settings
) -> Difference:
    zero_one = is_zero_one(paired.metric)
    by_seed = tuple(_seed_difference(run, next(intervals), zero_one) for run in paired.runs)
    counts = add_counts([seed.counts for seed in by_seed])
    n_pooled = sum(seed.n for seed in by_seed)
    margins = settings.margins_for(paired.metric, zero_one=zero_one)
    rows = paired.by_row
    p_values = [seed.p for seed in by_seed if seed.p is not None]
    one_run = len(by_seed) == 1
    return Difference(
        direction=paired.direction,
        condition=paired.condition,
        baseline=paired.baseline,
        metric=paired.metric,
        seeds=tuple(run.seed for run in paired.runs),
        runs=len(by_seed),
        n_rows=len(rows.row_ids),
        n_pooled=n_pooled,
        mean=math.fsum(value for run in paired.runs for value in run.values) / n_pooled,
        baseline_mean=math.fsum(v for run in paired.runs for v in run.baseline_values) / n_pooled,
        delta=math.fsum(delta for run in paired.runs for delta in run.deltas) / n_pooled,
        standard_error=None,
        interval=next(intervals),
        counts=counts,
        p=min(p_values, default=None),
        p_method=None
        if not p_values
        else "mcnemar_continuity_corrected"
        if one_run
        else "mcnemar_continuity_corrected_min_over_seeds",
        p_holm=None,
        effect=None,
        equivalence=published_tost(rows.deltas, margins, alpha=settings.alpha) if margins else None,
        same_sign_in_every_seed=same_sign([seed.delta for seed in by_seed]),
        verdict=None,
        by_seed=by_seed,
        warnings=paired.warnings,
    )


def _seed_difference(run: PairedRun, interval: Interval, zero_one: bool) -> SeedDifference:
    counts = run_counts(run, zero_one=zero_one)
    n = len(run.row_ids)
    return SeedDifference(
        seed=run.seed,
        n=n,
        mean=math.fsum(run.values) / n,
        baseline_mean=math.fsum(run.baseline_values) / n,
        delta=math.fsum(run.deltas) / n,
        interval=interval,
        counts=counts,
        p=continuity_corrected_mcnemar(counts.gained, counts.lost) if zero_one else None,
        p_method="mcnemar_continuity_corrected" if zero_one else None,
    )
