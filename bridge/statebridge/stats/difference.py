"""One condition against one baseline in the default mode: rows as clusters."""

from __future__ import annotations

import math

import numpy as np
from scipy import stats

from statebridge.stats.comparison import (
    Counts,
    Difference,
    EffectSize,
    Interval,
    PMethod,
    SeedDifference,
    Settings,
)
from statebridge.stats.hypothesis_tests import (
    cohens_dz,
    discordant_odds_ratio,
    exact_mcnemar,
    exact_mcnemar_over_seeds,
    minimal_detectable_effect,
    tost,
)
from statebridge.stats.intervals import (
    SPARSE_ROWS,
    Floats,
    clustered_interval,
    keyed_generator,
    mean_and_sd,
    with_pseudo_rows,
)
from statebridge.stats.pairing import ClusteredRows, PairedCondition, PairedRun, is_zero_one


def clustered_difference(paired: PairedCondition, settings: Settings) -> Difference:
    """Return the difference of a paired condition; `p_holm` and `verdict` are left None.

    Raises:
        ResultError: The condition's runs have no row in common.
    """
    zero_one = is_zero_one(paired.metric)
    rows = paired.by_row
    deltas = rows.deltas
    shared = set(rows.row_ids)
    runs = [run.restricted(shared) for run in paired.runs]
    by_seed = tuple(_seed_difference(paired, run, settings) for run in paired.runs)
    counts = add_counts([run_counts(run, zero_one=zero_one) for run in runs])
    mean, sd = mean_and_sd(deltas)
    p, p_method = _p_value(rows.sums, rows.runs, zero_one=zero_one)
    margins = settings.margins_for(paired.metric, zero_one=zero_one)
    size = len(deltas) * len(runs)
    return Difference(
        direction=paired.direction,
        condition=paired.condition,
        baseline=paired.baseline,
        metric=paired.metric,
        seeds=tuple(run.seed for run in runs),
        runs=len(runs),
        n_rows=len(deltas),
        n_pooled=size,
        mean=math.fsum(value for run in runs for value in run.values) / size,
        baseline_mean=math.fsum(value for run in runs for value in run.baseline_values) / size,
        delta=mean,
        standard_error=sd / math.sqrt(len(deltas)) if len(deltas) > 1 else None,
        interval=_interval(deltas, paired, settings),
        counts=counts,
        p=p,
        p_method=p_method,
        p_holm=None,
        effect=_effect(deltas, counts, settings, zero_one=zero_one),
        equivalence=tost(deltas, margins, zero_one=zero_one, alpha=settings.alpha)
        if margins
        else None,
        same_sign_in_every_seed=same_sign([seed.delta for seed in by_seed]),
        verdict=None,
        by_seed=by_seed,
        warnings=(*paired.warnings, *_remarks(paired, rows, zero_one=zero_one)),
    )


def run_counts(run: PairedRun, *, zero_one: bool) -> Counts:
    """Count a run's rows by the sign of their delta."""
    deltas = run.deltas
    gained, lost = int((deltas > 0).sum()), int((deltas < 0).sum())
    tied = len(deltas) - gained - lost
    if not zero_one:
        return Counts(gained=gained, lost=lost, tied=tied)
    correct = int(((run.values == 1) & (run.baseline_values == 1)).sum())
    return Counts(
        gained=gained, lost=lost, tied=tied, tied_correct=correct, tied_wrong=tied - correct
    )


def add_counts(counts: list[Counts]) -> Counts:
    """Return the counts of all runs together."""

    def total(values: list[int | None]) -> int | None:
        known = [value for value in values if value is not None]
        return sum(known) if known else None

    return Counts(
        gained=sum(one.gained for one in counts),
        lost=sum(one.lost for one in counts),
        tied=sum(one.tied for one in counts),
        tied_correct=total([one.tied_correct for one in counts]),
        tied_wrong=total([one.tied_wrong for one in counts]),
    )


def same_sign(deltas: list[float]) -> bool:
    """Whether all deltas are above zero, or all below."""
    return all(delta > 0 for delta in deltas) or all(delta < 0 for delta in deltas)


def _seed_difference(paired: PairedCondition, run: PairedRun, settings: Settings) -> SeedDifference:
    zero_one = is_zero_one(paired.metric)
    counts = run_counts(run, zero_one=zero_one)
    p, p_method = _p_value(run.deltas, 1, zero_one=zero_one)
    n = len(run.row_ids)
    return SeedDifference(
        seed=run.seed,
        n=n,
        mean=math.fsum(run.values) / n,
        baseline_mean=math.fsum(run.baseline_values) / n,
        delta=math.fsum(run.deltas) / n,
        interval=_interval(run.deltas, paired, settings, "seed", run.seed),
        counts=counts,
        p=p,
        p_method=p_method,
    )


def _interval(
    deltas: Floats, paired: PairedCondition, settings: Settings, *names: object
) -> Interval | None:
    return clustered_interval(
        deltas,
        keyed_generator("difference", *paired.key, *names),
        zero_one=is_zero_one(paired.metric),
        level=settings.level,
        resamples=settings.resamples,
        kind=settings.interval,
    )


def _p_value(row_sums: Floats, runs: int, *, zero_one: bool) -> tuple[float | None, PMethod | None]:
    """Test that the mean is zero, given each row's deltas summed over the runs."""
    if not zero_one:
        mean, sd = mean_and_sd(row_sums)
        if sd == 0:
            return None, None
        t_value = mean / (sd / math.sqrt(len(row_sums)))
        return 2.0 * float(stats.t.sf(abs(t_value), len(row_sums) - 1)), "paired_t"
    if runs == 1:
        gained, lost = int((row_sums > 0).sum()), int((row_sums < 0).sum())
        return exact_mcnemar(gained, lost), "exact_mcnemar"
    return exact_mcnemar_over_seeds(row_sums.astype(np.int64)), "exact_mcnemar_over_seeds"


def _effect(deltas: Floats, counts: Counts, settings: Settings, *, zero_one: bool) -> EffectSize:
    mean, sd = mean_and_sd(deltas)
    # With the pseudo-rows a metric under which no row differed still has a detectable size.
    spread = mean_and_sd(with_pseudo_rows(deltas))[1] if zero_one else sd
    return EffectSize(
        cohens_dz=cohens_dz(mean, sd),
        discordant_odds_ratio=discordant_odds_ratio(counts.gained, counts.lost)
        if zero_one
        else None,
        minimal_detectable=minimal_detectable_effect(
            spread, len(deltas), alpha=settings.alpha, power=settings.power
        ),
        power=settings.power,
    )


def _remarks(paired: PairedCondition, rows: ClusteredRows, *, zero_one: bool) -> list[str]:
    where = f"{paired.condition} against {paired.baseline} ({paired.direction}, {paired.metric})"
    remarks = []
    if rows.left_out:
        remarks.append(
            f"{where}: {rows.left_out} row(s) lack a value under some seed and are left out"
        )
    deltas = rows.deltas
    if len(deltas) == 1:
        remarks.append(f"{where}: one row gives no interval, no equivalence test and no power")
    elif (deltas == deltas[0]).all():
        remarks.append(
            f"{where}: every row has the same delta"
            + ("; the interval is exact" if zero_one else "; there is no interval and no test")
        )
    elif zero_one and np.count_nonzero(deltas) < SPARSE_ROWS:
        remarks.append(
            f"{where}: only {np.count_nonzero(deltas)} of {len(deltas)} rows differ; the "
            "interval is the adjusted Wald one"
        )
    return remarks
