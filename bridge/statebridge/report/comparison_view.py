"""The comparison's tables: differences, strata, and the failure chain."""

from __future__ import annotations

from collections.abc import Sequence

from statebridge.figures.differences import condition_rows
from statebridge.figures.grouping import row_label
from statebridge.figures.wording import (
    interval_kind,
    interval_text,
    metric_label,
    plain,
    rows_text,
    seeds_text,
    signed,
)
from statebridge.report.table_view import TableView, table
from statebridge.scoring import METRICS
from statebridge.stats import Comparison, Difference, FailureChain, Share, Stratification
from statebridge.stats.comparison import PMethod
from statebridge.stats.pairing import is_zero_one

_HEADERS = (
    "condition",
    "verdict",
    "mean",
    "baseline",
    "difference",
    "interval",
    "gained",
    "lost",
    "tied",
    "p",
    "p (Holm)",
    "equivalent within",
    "ruled out beyond",
    "detectable",
    "effect dz",
)
_TESTS: dict[PMethod, str] = {
    "exact_mcnemar": "exact McNemar test",
    "exact_mcnemar_over_seeds": "exact McNemar test over all seeds of a row",
    "mcnemar_continuity_corrected": "McNemar test with continuity correction",
    "mcnemar_continuity_corrected_min_over_seeds": "McNemar test with continuity correction, the "
    "least over the seeds",
    "paired_t": "paired t-test",
}
_CHAINED = ("gold_logprob", *METRICS)
"""Metrics of which more is better, so that there is such a thing as a loss."""


def difference_view(comparison: Comparison, baseline: str, metric: str) -> TableView | None:
    """Return every condition's difference from a baseline in a metric; None if there is none."""
    found = [d for d in comparison.differences if (d.baseline, d.metric) == (baseline, metric)]
    if not found:
        return None
    both = len({d.direction for d in found}) > 1
    by_place = {(d.direction, d.condition): d for d in found}
    rows = [
        _difference_row(row_label(condition, direction, both=both), by_place[direction, condition])
        for direction, condition in condition_rows(found)
    ]
    return table(
        f"{metric_label(metric)[0].upper()}{metric_label(metric)[1:]} against {baseline}",
        _HEADERS,
        rows,
        words=2,
        note=_difference_note(comparison, found),
    )


def _difference_row(label: str, d: Difference) -> list[str]:
    digits = 4 if is_zero_one(d.metric) else 3
    effect, equivalence = d.effect, d.equivalence
    return [
        label,
        d.verdict or "–",
        plain(d.mean, digits),
        plain(d.baseline_mean, digits),
        signed(d.delta, digits),
        interval_text(d.interval, digits),
        str(d.counts.gained),
        str(d.counts.lost),
        str(d.counts.tied),
        p_text(d.p),
        p_text(d.p_holm),
        "–" if d.equivalent_within is None else f"±{d.equivalent_within:g}",
        "–" if equivalence is None else f"±{equivalence.ruled_out:.{digits}f}",
        "–"
        if effect is None or effect.minimal_detectable is None
        else f"{effect.minimal_detectable:.3g}",
        "–" if effect is None or effect.cohens_dz is None else signed(effect.cohens_dz, 2),
    ]


def _difference_note(comparison: Comparison, found: Sequence[Difference]) -> str:
    settings = comparison.settings
    tests = sorted({_TESTS[d.p_method] for d in found if d.p_method is not None})
    named = " or ".join(tests) or "no test"
    note = (
        f"Paired by row: condition less baseline; {interval_kind(d.interval for d in found)}; "
        f"{rows_text(d.n_rows for d in found)}; "
        f"{seeds_text(seed for d in found for seed in d.seeds)}; gained, lost and tied count rows "
        f"over all runs. p: {named}"
    )
    if comparison.mode == "published":
        return f"{note}. As published: seeds of one row count as independent."
    return (
        f"{note}; Holm's correction over the conditions of this table. Equivalent within: the "
        f"smallest declared margin met by TOST (alpha {settings.alpha:g}); ruled out beyond: the "
        "smallest margin that would be met; detectable: the smallest true difference found with "
        f"{100 * settings.power:.0f} % power."
    )


def p_text(p: float | None) -> str:
    """Return a p-value; a dash for none."""
    if p is None:
        return "–"
    return "< 0.0001" if p < 0.0001 else f"{p:.4f}"


def strata_view(comparison: Comparison, baseline: str, metric: str) -> TableView | None:
    """Return the differences by stratum and the interaction; None if none was computed."""
    found = [s for s in comparison.stratifications if (s.baseline, s.metric) == (baseline, metric)]
    if not found:
        return None
    both = len({s.direction for s in found}) > 1
    conditions = condition_rows(found)
    attributes = list(dict.fromkeys(s.attribute for s in found))
    by_place = {(s.direction, s.condition, s.attribute): s for s in found}
    rows = [
        row
        for attribute in attributes
        for direction, condition in conditions
        if (one := by_place.get((direction, condition, attribute))) is not None
        for row in _stratum_rows(row_label(condition, direction, both=both), one)
    ]
    return table(
        f"By stratum: {metric_label(metric)} against {baseline}",
        [
            "attribute",
            "condition",
            "stratum",
            "rows",
            "mean",
            "baseline",
            "difference",
            "interval",
            "interaction p",
            "p (Holm)",
        ],
        rows,
        words=3,
        note=(
            f"With {interval_kind(x.interval for s in found for x in s.strata)}. Interaction: "
            f"permutation test ({found[0].permutations} permutations) that the difference is the "
            "same in every stratum; Holm's correction over all conditions and attributes."
        ),
    )


def _stratum_rows(label: str, one: Stratification) -> list[list[str]]:
    return [
        [
            one.attribute.replace("_", " "),
            label,
            stratum.label,
            str(stratum.n_rows),
            plain(stratum.mean),
            plain(stratum.baseline_mean),
            signed(stratum.delta),
            interval_text(stratum.interval),
            p_text(one.interaction_p),
            p_text(one.interaction_p_holm),
        ]
        for stratum in one.strata
    ]


def chain_view(comparison: Comparison) -> TableView | None:
    """Return the failure chains; None if there is none."""
    chains = [chain for chain in comparison.failure_chains if chain.metric in _CHAINED]
    if not chains:
        return None
    both = len({chain.direction for chain in chains}) > 1
    rows = [
        [
            metric_label(chain.metric),
            row_label(chain.baseline, chain.direction, both=both),
            f"{plain(chain.total_loss)} {interval_text(chain.total_loss_interval)}",
            f"{plain(chain.norm_loss)} {interval_text(chain.norm_loss_interval)}",
            f"{plain(chain.direction_loss)} {interval_text(chain.direction_loss_interval)}",
            _share(chain.norm_share),
            _share(chain.direction_share),
        ]
        for chain in chains
    ]
    return table(
        "Failure chain: where the loss of replacing states comes from",
        [
            "metric",
            "baseline",
            "loss",
            "norm mismatch",
            "direction error",
            "share: norm",
            "share: direction",
        ],
        rows,
        words=2,
        note=_chain_note(chains),
    )


def _chain_note(chains: Sequence[FailureChain]) -> str:
    intervals = [c.total_loss_interval for c in chains]
    intervals += [s.interval for c in chains for s in (c.norm_share, c.direction_share) if s]
    reasons = dict.fromkeys(
        f"{metric_label(c.metric)} against {c.baseline}: {c.no_shares_because}"
        for c in chains
        if c.no_shares_because
    )
    note = (
        "Loss: baseline less replace. Norm mismatch: scale_corrected less replace. Direction "
        f"error: baseline less scale_corrected. {interval_kind(intervals)}; "
        f"{rows_text(c.n_rows for c in chains)}."
    )
    return f"{note} No shares for {'; '.join(reasons)}." if reasons else note


def _share(share: Share | None) -> str:
    if share is None:
        return "–"
    ends = (share.value, share.interval.low, share.interval.high)
    value, low, high = (f"{100 * end:.0f} %".replace("-", "−") for end in ends)
    return f"{value} [{low}, {high}]"
