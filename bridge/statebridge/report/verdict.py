"""The verdict in words, built from the statistics and from nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from statebridge.figures.grouping import ConditionCells, condition_cells
from statebridge.figures.wording import interval_text, joined, metric_label, plain, signed
from statebridge.report.cautions import cautions, unchanged_by_self_injection
from statebridge.report.roles import plain_baseline, role, shuffled_twins
from statebridge.results.table import Direction, ResultSet
from statebridge.scoring import row_values
from statebridge.stats import Comparison, Difference, FailureChain, Settings, compare
from statebridge.stats.pairing import is_zero_one

DESTROYED = 0.25
"""A condition that keeps less than this share of the baseline's score is called destructive."""

_SENSITIVE = "gold_logprob"
_JUDGED_BY = ("word_boundary_contains", _SENSITIVE)
_LOWER_IS_BETTER = ("gold_rank",)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the results of one direction say, the most important first."""

    direction: Direction
    headline: str
    findings: tuple[str, ...]
    """One sentence or two each, with the numbers."""
    cautions: tuple[str, ...]
    """What a reader must know before believing the headline."""


def judging_metric(comparison: Comparison) -> str:
    """Return the metric that the verdict rests on: containment, else gold log-probability."""
    return next((m for m in _JUDGED_BY if m in comparison.metrics), comparison.metrics[0])


def verdicts(results: ResultSet, comparison: Comparison | None) -> list[Verdict]:
    """Return a verdict for each direction that holds rows.

    `comparison` is in the default mode; None where there was nothing to compare with.
    """
    groups = condition_cells(results)
    return [
        _verdict(results, [g for g in groups if g.direction == direction], comparison)
        for direction in dict.fromkeys(group.direction for group in groups)
    ]


def _verdict(
    results: ResultSet, groups: Sequence[ConditionCells], comparison: Comparison | None
) -> Verdict:
    direction = groups[0].direction
    baseline = plain_baseline(groups)
    metric = None if comparison is None else judging_metric(comparison)
    warned = tuple(cautions(results, groups, comparison, baseline, metric))
    if baseline is None or comparison is None or metric is None:
        return Verdict(
            direction,
            "No verdict: the results hold no run without injection (no_inject) to compare with.",
            (),
            warned,
        )
    found = _found(comparison, direction, baseline, metric)
    channels = [found[g.condition] for g in groups if _has_role(g, "channel", found)]
    controls = [found[g.condition] for g in groups if _has_role(g, "control", found)]
    relays = [found[g.condition] for g in groups if _has_role(g, "relay", found)]
    findings = [_sentence(d) for d in channels]
    if metric != _SENSITIVE:
        sensitive = _found(comparison, direction, baseline, _SENSITIVE)
        findings += _by_logprob(
            [sensitive[d.condition] for d in channels if d.condition in sensitive]
        )
    findings += [f"Text relay. {_sentence(d)}" for d in relays]
    findings += _against_relay(comparison, direction, metric, channels, relays)
    findings += _controls(controls)
    findings += unchanged_by_self_injection(groups, baseline)
    findings += _own_content(groups, metric, comparison.settings)
    findings += [
        _chain(c)
        for c in comparison.failure_chains
        if (c.direction, c.baseline, c.metric) == (direction, baseline, metric)
    ]
    headline = _headline(baseline, metric, channels, controls)
    if _at_floor(metric, channels):
        sensitive = _found(comparison, direction, baseline, _SENSITIVE)
        headline += _second_headline(groups, baseline, sensitive)
    return Verdict(direction, headline, tuple(findings), warned)


def _found(
    comparison: Comparison, direction: Direction, baseline: str, metric: str
) -> dict[str, Difference]:
    return {
        d.condition: d
        for d in comparison.differences
        if (d.direction, d.baseline, d.metric) == (direction, baseline, metric)
    }


def _has_role(group: ConditionCells, wanted: str, found: dict[str, Difference]) -> bool:
    return group.condition in found and role(group) == wanted


def _headline(
    baseline: str, metric: str, channels: Sequence[Difference], controls: Sequence[Difference]
) -> str:
    if not channels:
        return (
            "No verdict on transfer: no condition with a value of "
            f"{metric_label(metric)} writes the sender's states."
        )
    if _at_floor(metric, channels):
        return (
            f"No verdict on answers: {metric_label(metric)} is 0 under {baseline} and under every "
            "condition that writes the sender's states, so neither a gain nor a loss could show."
        )
    parts = [_gain_part(baseline, channels, controls)]
    parts += _equivalent_parts(baseline, channels)
    lower = [d for d in channels if _worse(d)]
    if is_zero_one(metric):
        destroyed = [d for d in lower if d.mean < DESTROYED * d.baseline_mean]
        parts += _named(destroyed, "destructive")
        parts += _named([d for d in lower if d not in destroyed], "harmful")
    else:
        parts += _named(lower, "harmful")
    parts += _named([d for d in channels if d.verdict == "inconclusive"], "inconclusive")
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]} (by {metric_label(metric)})."


def _at_floor(metric: str, channels: Sequence[Difference]) -> bool:
    return (
        bool(channels)
        and is_zero_one(metric)
        and all(d.mean == d.baseline_mean == 0 for d in channels)
    )


def _second_headline(
    groups: Sequence[ConditionCells], baseline: str, sensitive: dict[str, Difference]
) -> str:
    """What log-probability says where no answer is right under any condition."""
    channels = [sensitive[g.condition] for g in groups if _has_role(g, "channel", sensitive)]
    controls = [sensitive[g.condition] for g in groups if _has_role(g, "control", sensitive)]
    return f" {_headline(baseline, _SENSITIVE, channels, controls)}" if channels else ""


def _gain_part(
    baseline: str, channels: Sequence[Difference], controls: Sequence[Difference]
) -> str:
    gains = [d for d in channels if _better(d)]
    stable = [d for d in gains if d.same_sign_in_every_seed]
    if stable:
        part = f"gain over {baseline} from {_listed(stable)}"
        if any(d.runs < 2 for d in stable):
            part += ", in one run only where there is one seed"
        gaining = [d for d in controls if _better(d)]
        if gaining:
            part += f", but the control {_listed(gaining)} gains too: no evidence of transfer"
        return part
    if gains:
        return f"no stable gain: {_listed(gains)} gains, but not under every seed"
    if any(d.verdict == "inconclusive" for d in channels):
        return "no gain shown"
    return "no stable gain"


def _equivalent_parts(baseline: str, channels: Sequence[Difference]) -> list[str]:
    margins: dict[float, list[Difference]] = {}
    for d in channels:
        if d.verdict == "equivalent" and d.equivalent_within is not None:
            margins.setdefault(d.equivalent_within, []).append(d)
    return [
        f"{_listed(members)} equivalent to {baseline} within ±{margin:g}"
        for margin, members in sorted(margins.items())
    ]


def _named(differences: Sequence[Difference], word: str) -> list[str]:
    return [f"{_listed(differences)} {word}"] if differences else []


def _listed(differences: Iterable[Difference]) -> str:
    return joined([d.condition for d in differences])


def _better(difference: Difference) -> bool:
    better = "lower" if difference.metric in _LOWER_IS_BETTER else "higher"
    return difference.verdict == better


def _worse(difference: Difference) -> bool:
    return difference.verdict in ("higher", "lower") and not _better(difference)


def _sentence(d: Difference) -> str:
    counts = d.counts
    text = (
        f"{d.condition}: {plain(d.mean)} against {plain(d.baseline_mean)} under {d.baseline}, a "
        f"difference of {_delta(d)}"
    )
    if is_zero_one(d.metric):
        over = f" over {d.runs} runs" if d.runs > 1 else ""
        text += f", {counts.gained} rows gained and {counts.lost} lost{over}"
    return f"{text}. {_meaning(d)}"


def _delta(d: Difference) -> str:
    if d.interval is None:
        return f"{signed(d.delta)} (no interval)"
    return (
        f"{signed(d.delta)} ({100 * d.interval.level:.4g} % interval {interval_text(d.interval)})"
    )


def _meaning(d: Difference) -> str:
    smallest = d.effect.minimal_detectable if d.effect else None
    if d.verdict in ("higher", "lower"):
        side = "Above" if d.delta > 0 else "Below"
        seeds = "" if d.same_sign_in_every_seed else ", but not under every seed"
        return f"{side} the baseline (p {_p(d.p_holm)} after Holm's correction){seeds}."
    ruled_out = d.equivalence.ruled_out if d.equivalence else None
    if d.verdict == "equivalent" and ruled_out is not None:
        return (
            f"Equivalent within ±{d.equivalent_within:g}; a true difference beyond "
            f"±{ruled_out:.4f} is ruled out."
        )
    text = "Inconclusive: neither a difference nor equivalence was shown"
    if smallest is not None:
        text += f"; with {d.n_rows} rows only a difference of about {smallest:.3g} is likely found"
    return f"{text}."


def _p(p: float | None) -> str:
    if p is None:
        return "not computed"
    return "< 0.0001" if p < 0.0001 else f"= {p:.4f}"


def _against_relay(
    comparison: Comparison,
    direction: Direction,
    metric: str,
    channels: Sequence[Difference],
    relays: Sequence[Difference],
) -> list[str]:
    sentences = []
    for relay in relays:
        found = [
            comparison.difference(d.condition, relay.condition, metric, direction) for d in channels
        ]
        clauses = [f"{d.condition} {_delta(d)}, {_verdict_word(d)}" for d in found if d is not None]
        if clauses:
            sentences.append(f"Against {relay.condition}: {'; '.join(clauses)}.")
    return sentences


def _verdict_word(d: Difference) -> str:
    if d.verdict == "equivalent":
        return f"equivalent within ±{d.equivalent_within:g}"
    return d.verdict or "no verdict"


def _by_logprob(channels: Sequence[Difference]) -> list[str]:
    if not channels:
        return []
    clauses = [f"{d.condition} {_delta(d)}, {_verdict_word(d)}" for d in channels]
    return [
        f"By {metric_label(_SENSITIVE)}, more sensitive per row than containment: "
        f"{'; '.join(clauses)}."
    ]


def _controls(controls: Sequence[Difference]) -> list[str]:
    if not controls:
        return []
    clauses = [f"{d.condition} {signed(d.delta)} ({_verdict_word(d)})" for d in controls]
    return [f"Controls, which carry nothing of the row: {'; '.join(clauses)}."]


def _own_content(groups: Sequence[ConditionCells], metric: str, settings: Settings) -> list[str]:
    """Compare each channel with the control that writes another row's state the same way."""
    sentences = []
    lean = settings.model_copy(update={"stratify_by": ()})
    by_name = {group.condition: group for group in groups}
    for channel, control in shuffled_twins(groups):
        pair = [by_name[channel], by_name[control]]
        if not all(_has_values(group, metric) for group in pair):
            continue
        # The strict control holds fewer rows; the channel is compared over those.
        held = {row.row_id for cell in pair[1].cells for row in cell.rows}
        cells = [
            replace(cell, rows=[row for row in cell.rows if row.row_id in held])
            for group in pair
            for cell in group.cells
        ]
        comparison = compare(ResultSet(cells), control, metrics=[metric], settings=lean)
        sentences += [
            f"The row's own state ({channel}) against another row's ({control}): {_delta(d)}, "
            f"{_verdict_word(d)}."
            for d in comparison.differences
        ]
    return sentences


def _has_values(group: ConditionCells, metric: str) -> bool:
    return any(row_values(cell, metric) for cell in group.cells)


def _chain(chain: FailureChain) -> str:
    text = (
        f"Of what {chain.replaced} loses ({plain(chain.total_loss)}), rescaling "
        f"({chain.corrected}) wins back {signed(chain.norm_loss)}"
    )
    if chain.norm_share is None or chain.direction_share is None:
        return f"{text}; no shares: {chain.no_shares_because}."
    return (
        f"{text}: norm mismatch accounts for {_share(chain.norm_share.value)} "
        f"[{_share(chain.norm_share.interval.low)}, {_share(chain.norm_share.interval.high)}] "
        f"and direction error for {_share(chain.direction_share.value)} "
        f"[{_share(chain.direction_share.interval.low)}, "
        f"{_share(chain.direction_share.interval.high)}] of the loss."
    )


def _share(value: float) -> str:
    return f"{100 * value:.0f} %".replace("-", "−")
