"""One condition against one baseline in the default mode: rows as clusters."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from statebridge.stats.comparison import (
    Counts,
    Difference,
    EffectSize,
    Interval,
    PMethod,
    SeedDifference,
    Settings,
    better_sign,
)
from statebridge.stats.inference.hypothesis_tests import (
    cohens_dz,
    discordant_odds_ratio,
    exact_mcnemar,
    exact_mcnemar_over_seeds,
    tost,
)
from statebridge.stats.inference.intervals import (
    FEW_LEAVING,
    LEAST_SEEDS,
    Floats,
    centre_value,
    clustered_interval,
    mean_and_sd,
    over_seeds,
    rows_leaving,
    seeds_agree,
)
from statebridge.stats.inference.means import BoundedMean, is_constant
from statebridge.stats.pairing import (
    ClusteredRows,
    PairedCondition,
    PairedRun,
    is_bounded,
    is_zero_one,
)


def clustered_difference(paired: PairedCondition, settings: Settings) -> Difference:
    """Return the difference of a paired condition, as it is before its family is known.

    `p_holm`, `verdict` and the detectable size are left None; `statebridge.stats.verdicts.judged`
    adds them.

    Raises:
        ResultError: The condition's runs have no row in common.
    """
    zero_one, bounded = is_zero_one(paired.metric), is_bounded(paired.metric)
    rows = paired.by_row
    deltas = rows.deltas
    shared = set(rows.row_ids)
    runs = [run.restricted(shared) for run in paired.runs]
    by_seed = tuple(_seed_difference(paired, run, settings) for run in paired.runs)
    sign = better_sign(paired.metric)
    counts = add_counts([run_counts(run, zero_one=zero_one, sign=sign) for run in runs])
    sd = mean_and_sd(deltas)[1]
    interval = clustered_interval(deltas, bounded=bounded, level=settings.level)
    wider, not_wider = _over_seeds(runs, interval, bounded=bounded)
    remarks = _remarks(paired, rows, interval, bounded=bounded)
    if wider is not None and seeds_agree(np.stack([run.deltas for run in runs], axis=1)):
        remarks.append(
            f"{_where(paired)}: the seeds are not shown to differ beyond the noise of their rows; "
            "the interval over seeds may be wider than its level needs"
        )
    p, p_method = _p_value(paired, rows.sums, rows.runs)
    margins = settings.margins_for(paired.metric, zero_one=bounded)
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
        delta=centre_value(deltas, bounded=bounded),
        centre="mean" if bounded else "median",
        standard_error=sd / math.sqrt(len(deltas)) if bounded and len(deltas) > 1 else None,
        interval=interval,
        counts=counts,
        p=p,
        p_method=p_method,
        p_holm=None,
        effect=_effect(deltas, counts, settings, zero_one=zero_one),
        equivalence=tost(deltas, margins, alpha=settings.alpha) if margins and bounded else None,
        same_sign_in_every_seed=same_sign([seed.delta for seed in by_seed]),
        verdict=None,
        by_seed=by_seed,
        warnings=(*paired.warnings, *remarks),
        interval_over_seeds=wider,
        no_interval_over_seeds_because=not_wider,
    )


def run_counts(run: PairedRun, *, zero_one: bool, sign: int = 1) -> Counts:
    """Count a run's rows by the sign of their delta; `sign` is -1 where lower is better."""
    deltas = sign * run.deltas
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
    counts = run_counts(run, zero_one=zero_one, sign=better_sign(paired.metric))
    bounded = is_bounded(paired.metric)
    p, p_method = _p_value(paired, run.deltas, 1)
    n = len(run.row_ids)
    return SeedDifference(
        seed=run.seed,
        n=n,
        mean=math.fsum(run.values) / n,
        baseline_mean=math.fsum(run.baseline_values) / n,
        delta=centre_value(run.deltas, bounded=bounded),
        interval=clustered_interval(run.deltas, bounded=bounded, level=settings.level),
        counts=counts,
        p=p,
        p_method=p_method,
    )


def _over_seeds(
    runs: Sequence[PairedRun], interval: Interval | None, *, bounded: bool
) -> tuple[Interval | None, str | None]:
    """The interval for other rows and other seeds, or why there is none."""
    if all(run.seed is None for run in runs):
        return None, "nothing in it is seeded"
    if len(runs) < LEAST_SEEDS:
        few = "one seed does" if len(runs) == 1 else f"{len(runs)} seeds do"
        return None, f"{few} not show how seeds differ; {LEAST_SEEDS} are needed"
    if not bounded:
        return None, "no method is known to hold for a median over other seeds"
    if interval is None:
        return None, "the rows give no interval"
    deltas = np.stack([run.deltas for run in runs], axis=1)
    return over_seeds(deltas, interval), None


def _p_value(
    paired: PairedCondition, row_sums: Floats, runs: int
) -> tuple[float | None, PMethod | None]:
    """Test that there is no difference, given each row's deltas summed over the runs."""
    gained, lost = int((row_sums > 0).sum()), int((row_sums < 0).sum())
    if paired.untested:
        return None, None
    if not is_bounded(paired.metric):
        # As many rows are above zero as below; rows at zero say nothing of it.
        enough = len(row_sums) > 1 and not is_constant(row_sums)
        return (exact_mcnemar(gained, lost), "exact_sign_test") if enough else (None, None)
    zero_one = is_zero_one(paired.metric)
    if zero_one and runs == 1:
        return exact_mcnemar(gained, lost), "exact_mcnemar"
    of_limits = None
    if len(row_sums) > 1:
        mean = BoundedMean(row_sums / runs, exact=not zero_one)
        of_limits = min(1.0, 2.0 * min(mean.p_above(0.0), mean.p_below(0.0)))
    if not zero_one:
        return of_limits, None if of_limits is None else "mover_exact"
    flipped = exact_mcnemar_over_seeds(row_sums.astype(np.int64))
    # Where rows are lost under all seeds and gained under one each, sign flips alone reject a
    # true null in up to 15 %.
    return max(flipped, of_limits or flipped), "exact_mcnemar_over_seeds"


def _effect(deltas: Floats, counts: Counts, settings: Settings, *, zero_one: bool) -> EffectSize:
    mean, sd = mean_and_sd(deltas)
    return EffectSize(
        cohens_dz=cohens_dz(mean, sd),
        discordant_odds_ratio=discordant_odds_ratio(counts.gained, counts.lost)
        if zero_one
        else None,
        minimal_detectable=None,
        power=settings.power,
    )


def _where(paired: PairedCondition) -> str:
    return f"{paired.condition} against {paired.baseline} ({paired.direction}, {paired.metric})"


def _remarks(
    paired: PairedCondition, rows: ClusteredRows, interval: Interval | None, *, bounded: bool
) -> list[str]:
    where = _where(paired)
    remarks = []
    if rows.left_out:
        remarks.append(
            f"{where}: {rows.left_out} row(s) lack a value under some seed and are left out"
        )
    deltas = rows.deltas
    n = len(deltas)
    if n == 1:
        remarks.append(f"{where}: one row gives no interval, no equivalence test and no power")
    elif bounded:
        if rows_leaving(deltas) < FEW_LEAVING:
            remarks.append(
                f"{where}: fewer than {FEW_LEAVING} rows leave the commonest difference; "
                "the interval may be wider than its level needs"
            )
        elif interval is not None and interval.method == "proportion_exact":
            remarks.append(
                f"{where}: nearly all of the {n} rows move to one side; the interval may be "
                "wider than its level needs"
            )
    elif is_constant(deltas):
        remarks.append(f"{where}: every row has the same delta; there is no interval and no test")
    elif interval is None:
        remarks.append(
            f"{where}: {n} rows give no interval of the median: they are too few, or most agree"
        )
    elif (deltas == np.median(deltas)).sum() > math.sqrt(n) / 2:
        remarks.append(
            f"{where}: several of {n} rows have the median difference; the interval may be "
            "wider than its level needs"
        )
    return remarks
