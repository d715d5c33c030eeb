"""The comparison table: every condition against every baseline, by metric."""

from __future__ import annotations

from typing import get_args

from statebridge.errors import ResultError
from statebridge.stats.comparison import (
    Comparison,
    Difference,
    IntervalMethod,
    PMethod,
    Verdict,
    measures_change,
)
from statebridge.tables.summary_tables import HEADERS
from statebridge.tables.table import Column, Range, Table, Value

METHOD_NAMES: dict[IntervalMethod, str] = {
    "mover_mid_p": "mid-P limits of gained and lost rows, rows as clusters",
    "mover_exact": "exact limits of gained and lost rows, rows as clusters",
    "proportion_exact": "exact limits of a proportion, rows as clusters",
    "median_order_statistics": "order statistics of the median row, rows as clusters",
    "fieller_mid_p": "Fieller's limits by mid-P, rows as clusters",
    "pooled_percentile_bootstrap": "percentile bootstrap over rows and seeds pooled, as published",
    "tost_normal": "TOST, normal",
}
"""Name of an interval's method, for readers."""


TEST_NAMES: dict[PMethod, str] = {
    "exact_mcnemar": "exact McNemar test",
    "exact_mcnemar_over_seeds": "exact McNemar test over seeds, no smaller than by the interval",
    "mcnemar_continuity_corrected": "McNemar test with continuity correction",
    "mcnemar_continuity_corrected_min_over_seeds": (
        "smallest over seeds of the McNemar test with continuity correction"
    ),
    "exact_sign_test": "exact sign test of rows above and below zero",
    "mover_exact": "exact limits of gained and lost parts",
}
"""Name of a p-value's test, for readers."""


MEDIAN_NOTE = (
    "Of a metric without bounds, the delta and all that follows from it are of the median row, "
    "which is not the difference of the two means: no interval of such a mean holds for every "
    "distribution, and that of a median does."
)


def comparison_table(comparison: Comparison) -> Table:
    """Return one row per difference, in the order of the comparison.

    Raises:
        ResultError: The comparison holds no difference.
    """
    if not comparison.differences:
        raise ResultError("the comparison holds no difference; compare at least one condition")
    several = len({d.direction for d in comparison.differences}) > 1
    clustered = comparison.mode == "clustered"
    over_seeds = any(d.interval_over_seeds is not None for d in comparison.differences)
    medians = all(d.centre == "median" for d in comparison.differences)
    columns = (
        Column("direction", "direction", printed=several),
        Column("condition", "condition"),
        Column("baseline", "against"),
        Column("metric", "metric", printed=False),
        Column("metric_name", "metric"),
        Column("runs", "runs", "integer"),
        Column("rows", "rows", "integer"),
        Column("pooled_rows", "rows × runs", "integer", printed=not clustered),
        Column("mean", "mean", "number"),
        Column("baseline_mean", "baseline mean", "number", printed=False),
        Column("delta", "delta, median row" if medians else "delta", "number", "signed"),
        Column("interval", "interval", "range", "signed"),
        Column("interval_over_seeds", "over seeds too", "range", "signed", printed=over_seeds),
        Column("interval_level", "level", "number", digits=2, printed=False),
        Column("interval_method", "method", printed=False),
        Column("standard_error", "standard error", "number", printed=False),
        Column("gained", "gained", "integer"),
        Column("lost", "lost", "integer"),
        Column("tied", "tied", "integer"),
        Column("p", "p", "number", "p_value", printed=not clustered),
        Column("p_method", "test", printed=False),
        Column("p_holm", "p (Holm)", "number", "p_value", printed=clustered),
        Column("equivalent_within", "equivalent within ±", "number", printed=clustered),
        Column("ruled_out", "ruled out beyond ±", "number", printed=clustered),
        Column("minimal_detectable", "detectable ±", "number", printed=clustered),
        Column("cohens_dz", "Cohen's dz", "number", printed=False),
        Column("same_sign_in_every_seed", "same sign in every seed", "boolean", printed=False),
        Column("verdict", "verdict", printed=clustered),
    )
    return Table(
        title=f"Paired differences, {comparison.mode} mode",
        columns=columns,
        rows=tuple(_row(difference) for difference in comparison.differences),
        notes=(*_notes(comparison), *grouped_warnings(comparison)),
    )


def _row(difference: Difference) -> tuple[Value, ...]:
    interval, effect = difference.interval, difference.effect
    equivalence, counts = difference.equivalence, difference.counts
    return (
        difference.direction,
        difference.condition,
        difference.baseline,
        difference.metric,
        compared_header(difference.metric),
        difference.runs,
        difference.n_rows,
        difference.n_pooled,
        difference.mean,
        difference.baseline_mean,
        difference.delta,
        Range.of(interval),
        Range.of(difference.interval_over_seeds),
        None if interval is None else interval.level,
        None if interval is None else interval.method,
        difference.standard_error,
        *(
            (None, None, None)
            if untested(difference)
            else (counts.gained, counts.lost, counts.tied)
        ),
        difference.p,
        difference.p_method,
        difference.p_holm,
        difference.equivalent_within,
        None if equivalence is None else equivalence.ruled_out,
        None if effect is None or _shown(difference) else effect.minimal_detectable,
        None if effect is None else effect.cohens_dz,
        difference.same_sign_in_every_seed,
        difference.verdict,
    )


def compared_header(metric: str) -> str:
    """Return the name of a metric where its differences are shown: ranks are logarithms there."""
    header = HEADERS.get(metric, metric)
    return f"log {header}" if metric == "gold_rank" else header


def _shown(difference: Difference) -> bool:
    # The rows that a clear difference moves are no measure of how much others would vary.
    return difference.is_better or difference.is_worse


def untested(difference: Difference) -> bool:
    """Whether a distance is compared with the baseline that it is measured from."""
    return measures_change(difference.metric) and difference.no_verdict_because is not None


def _notes(comparison: Comparison) -> list[str]:
    intervals = [d.interval for d in comparison.differences if d.interval is not None]
    kinds = [
        f"{100 * level:g} % {METHOD_NAMES[method]}"
        for level, method in sorted({(i.level, i.method) for i in intervals})
    ]
    scopes = sorted({i.scope for i in intervals})
    over_seeds = {
        d.interval_over_seeds.scope for d in comparison.differences if d.interval_over_seeds
    }
    tests = sorted({d.p_method for d in comparison.differences if d.p_method is not None})
    notes = [
        f"Intervals: {'; '.join(kinds) or 'none'}"
        + (f"; they hold for {' or '.join(scopes)}" if scopes else "")
        + "".join(f"; 'over seeds too' for {scope}" for scope in over_seeds)
        + ".",
        f"p: {'; '.join(TEST_NAMES[test] for test in tests) or 'none'}.",
        "Gained, lost and tied count rows over all runs.",
    ]
    if any(d.centre == "median" for d in comparison.differences):
        notes.append(MEDIAN_NOTE)
    if comparison.mode == "clustered":
        settings = comparison.settings
        notes.append(
            f"Equivalence by TOST at {settings.alpha:g} (by {100 - 200 * settings.alpha:g} % "
            "intervals), corrected by Holm; of a 0/1 metric also "
            f"within {100 * settings.relative_margin:g} % of the baseline's mean. 'Ruled out' is "
            "the smallest margin that the difference alone would meet. 'Detectable' has "
            f"{100 * settings.power:g} % power at {settings.alpha:g} / m, where Holm's correction "
            "is over m tests: of the exact test for a 0/1 metric, of the sign test for one without "
            "bounds."
        )
        given = {d.verdict for d in comparison.differences}
        meanings = [f"{v}: {VERDICT_MEANINGS[v]}" for v in get_args(Verdict) if v in given]
        notes += [f"Verdicts: {'; '.join(meanings)}."] if meanings else []
        reasons: dict[str, list[str]] = {}
        for d in comparison.differences:
            if d.no_verdict_because is not None:
                reasons.setdefault(d.no_verdict_because, []).append(d.condition)
        notes += [
            f"Without a verdict ({because}): {', '.join(dict.fromkeys(names))}."
            for because, names in reasons.items()
        ]
    return notes


def grouped_warnings(comparison: Comparison) -> list[str]:
    """Return the warnings about the data, then those about single differences by their reason.

    A reason that several differences share is one line, which names them.
    """
    concerned: dict[str, dict[str, list[str]]] = {}
    for d in comparison.differences:
        against = f"against {d.baseline} ({d.direction}, {d.metric})"
        for warning in d.warnings:
            where, _, reason = warning.partition(": ")
            if where == f"{d.condition} {against}":
                concerned.setdefault(reason, {}).setdefault(against, []).append(d.condition)
            else:
                concerned.setdefault(warning, {})
    lines = []
    for reason, places in concerned.items():
        names = [f"{', '.join(conditions)} {against}" for against, conditions in places.items()]
        lines.append(f"{'; '.join(names)}: {reason}" if names else reason)
    return list(dict.fromkeys([*comparison.warnings, *lines]))


VERDICT_MEANINGS: dict[Verdict, str] = {
    "better": "better than the baseline after Holm's correction",
    "worse": "worse than the baseline after Holm's correction",
    "higher": "above the baseline after Holm's correction",
    "lower": "below the baseline after Holm's correction",
    "different_within": "different after Holm's correction, and within a declared margin",
    "equivalent": "within a declared margin, and no difference even before the correction",
    "inconclusive": "neither",
}
"""Meaning of a verdict, for readers."""
