"""Scores and differences as tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from statebridge.figures.differences import condition_rows
from statebridge.figures.wording import (
    compared_label,
    interval_kind,
    metric_label,
    rows_text,
    seeds_text,
)
from statebridge.records import ResultSet
from statebridge.report.words.sentences import ROLE_WORDS, share_text
from statebridge.results.by_condition import ConditionCells, condition_cells, row_label
from statebridge.scoring import score_cell, score_conditions
from statebridge.stats import Comparison, FailureChain, Share, Stratification
from statebridge.stats.compare import PUBLISHED_METRICS
from statebridge.stats.strata import FEWEST
from statebridge.tables import Column, Range, Table, comparison_table, table_one

_MEASURES = (
    "task_correct",
    *PUBLISHED_METRICS,
    "first_answer_span",
    "gold_logprob",
    "gold_rank",
    "kl_from_no_inject",
    "prediction_changed",
)


def score_view(results: ResultSet) -> Table:
    """Return one row a condition: its role, its runs, its rows, its means."""
    groups = condition_cells(results)
    scores = score_conditions(
        score_cell(cell, _MEASURES) for group in groups for cell in group.cells
    )
    measured = [m for m in _MEASURES if any(s.means[m].mean is not None for s in scores)]
    table = _with_roles(table_one(results, scores, measures=measured), groups)
    if "kl_from_no_inject" in measured and any(group.declared.private for group in groups):
        table = replace(table, notes=(*table.notes, _TWO_SCALES))
    return table


_TWO_SCALES = (
    "KL is measured from the receiver alone with the same prompt: question_only or "
    "placeholder_only for what is written into these, no_inject for all others, texts and "
    "skyline included. The two are no common scale."
)


def _with_roles(table: Table, groups: Sequence[ConditionCells]) -> Table:
    roles = {(g.direction, g.condition): ROLE_WORDS[g.role] for g in groups}
    names = [column.name for column in table.columns]
    direction, condition = names.index("direction"), names.index("condition")
    after = condition + 1
    return replace(
        table,
        title=f"Table 1. {table.title}",
        columns=(*table.columns[:after], Column("role", "role"), *table.columns[after:]),
        rows=tuple(
            (*row[:after], roles.get((row[direction], row[condition])), *row[after:])  # type: ignore[arg-type]
            for row in table.rows
        ),
    )


_SAID_AROUND = ("baseline", "metric_name", "runs", "rows")
"""Columns whose value is in the title or the note."""
_ALSO_PRINTED = ("baseline_mean", "cohens_dz")


def difference_view(comparison: Comparison, baseline: str, metric: str) -> Table | None:
    """Return every condition's difference from a baseline in a metric; None if there is none."""
    found = [d for d in comparison.differences if (d.baseline, d.metric) == (baseline, metric)]
    if not found:
        return None
    by_place = {(d.direction, d.condition): d for d in found}
    ordered = tuple(by_place[place] for place in condition_rows(found))
    # A warning about the data as a whole comes once in the report, not under every table.
    quiet = tuple(d.model_copy(update={"warnings": ()}) for d in ordered)
    table = comparison_table(comparison.model_copy(update={"differences": quiet, "warnings": ()}))
    columns = [
        replace(
            column,
            printed=(column.printed or column.name in _ALSO_PRINTED)
            and column.name not in _SAID_AROUND,
        )
        for column in table.columns
    ]
    order = _verdict_early([column.name for column in columns])
    return replace(
        table,
        title=f"{_capital(compared_label(metric))} against {baseline}",
        columns=tuple(columns[i] for i in order),
        rows=tuple(tuple(row[i] for i in order) for row in table.rows),
        notes=(
            f"{rows_text(d.n_rows for d in found)}; "
            f"{seeds_text(seed for d in found for seed in d.seeds)}. {' '.join(table.notes)}",
        ),
    )


def _verdict_early(names: Sequence[str]) -> list[int]:
    """The places of the columns with the verdict beside the condition: wide tables scroll."""
    verdict, after = names.index("verdict"), names.index("condition") + 1
    others = [place for place in range(len(names)) if place != verdict]
    return [*others[:after], verdict, *others[after:]]


def strata_view(comparison: Comparison, baseline: str, metric: str) -> Table | None:
    """Return the differences by stratum and the interaction; None if none was computed."""
    found = [s for s in comparison.stratifications if (s.baseline, s.metric) == (baseline, metric)]
    if not found:
        return None
    both = len({s.direction for s in found}) > 1
    by_place = {(s.direction, s.condition, s.attribute): s for s in found}
    rows = [
        row
        for attribute in dict.fromkeys(s.attribute for s in found)
        for direction, condition in condition_rows(found)
        if (one := by_place.get((direction, condition, attribute))) is not None
        for row in _stratum_rows(row_label(condition, direction, both=both), one)
    ]
    return Table(
        title=f"By stratum: {compared_label(metric)} against {baseline}",
        columns=(
            Column("attribute", "attribute"),
            Column("condition", "condition"),
            Column("stratum", "stratum"),
            Column("rows", "rows", "integer"),
            Column("mean", "mean", "number"),
            Column("baseline_mean", "baseline mean", "number"),
            Column("delta", "delta", "number", "signed"),
            Column("interval", "interval", "range", "signed"),
            Column("interaction_p", "interaction p", "number", "p_value"),
            Column("interaction_p_holm", "p (Holm)", "number", "p_value"),
        ),
        rows=tuple(rows),
        notes=(
            f"With {interval_kind(x.interval for s in found for x in s.strata)}. Interaction: "
            f"permutation test of Welch's statistic ({found[0].permutations} permutations) that "
            "the difference is the same in every stratum, strata of fewer than "
            f"{FEWEST} rows left out; Holm's correction over all conditions and attributes.",
            *_not_tested(found),
        ),
    )


def _not_tested(found: Sequence[Stratification]) -> list[str]:
    reasons: dict[str, list[str]] = {}
    for one in found:
        if one.no_interaction_because is not None:
            attribute = one.attribute.replace("_", " ")
            reasons.setdefault(one.no_interaction_because, []).append(
                f"{one.condition} by {attribute}"
            )
    return [f"No p for {', '.join(names)}: {reason}." for reason, names in reasons.items()]


def _stratum_rows(
    label: str, one: Stratification
) -> list[tuple[str | int | float | Range | None, ...]]:
    return [
        (
            one.attribute.replace("_", " "),
            label,
            stratum.label,
            stratum.n_rows,
            stratum.mean,
            stratum.baseline_mean,
            stratum.delta,
            Range.of(stratum.interval),
            one.interaction_p,
            one.interaction_p_holm,
        )
        for stratum in one.strata
    ]


def chain_view(comparison: Comparison) -> Table | None:
    """Return the failure chains; None if there is none."""
    chains = comparison.failure_chains
    if not chains:
        return None
    both = len({chain.direction for chain in chains}) > 1
    return Table(
        title="Failure chain: how much of what replacing states loses the right norm wins back",
        columns=(
            Column("metric", "metric"),
            Column("baseline", "baseline"),
            Column("total_loss", "loss", "number"),
            Column("total_interval", "interval", "range"),
            Column("norm_loss", "won back by rescaling", "number"),
            Column("norm_interval", "its interval", "range"),
            Column("direction_loss", "not won back", "number"),
            Column("direction_interval", "its interval ", "range"),
            Column("norm_share", "share won back"),
            Column("direction_share", "share not won back"),
        ),
        rows=tuple(
            (
                metric_label(chain.metric),
                row_label(chain.baseline, chain.direction, both=both),
                chain.total_loss,
                Range.of(chain.total_loss_interval),
                chain.norm_loss,
                Range.of(chain.norm_loss_interval),
                chain.direction_loss,
                Range.of(chain.direction_loss_interval),
                _share(chain.norm_share),
                _share(chain.direction_share),
            )
            for chain in chains
        ),
        notes=_chain_notes(chains),
    )


def _chain_notes(chains: Sequence[FailureChain]) -> tuple[str, ...]:
    intervals = [c.total_loss_interval for c in chains]
    intervals += [s.interval for c in chains for s in (c.norm_share, c.direction_share) if s]
    reasons: dict[str, list[str]] = {}
    for c in chains:
        if c.no_shares_because:
            where = f"{metric_label(c.metric)} against {c.baseline}"
            reasons.setdefault(c.no_shares_because, []).append(where)
    note = (
        "Loss: baseline less replace. Won back by rescaling to the receiver's norm: "
        "scale_corrected less replace. Not won back: baseline less scale_corrected. Taken in this "
        "order; in another, the parts would be others. "
        f"{_capital(interval_kind(intervals))}; {rows_text(c.n_rows for c in chains)}."
    )
    absent = [f"No shares for {', '.join(where)}: {reason}." for reason, where in reasons.items()]
    return (note, *absent)


def _share(share: Share | None) -> str | None:
    return None if share is None else share_text(share)


def _capital(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}"
