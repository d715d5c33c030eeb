"""Differences and shares as sentences, with their numbers, and the words for roles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from statebridge.experiment.conditions import Condition, Role
from statebridge.figures.wording import interval_text, metric_label, percent, plain, signed
from statebridge.records import DatasetRow, Direction, ResultSet
from statebridge.results.by_condition import ConditionCells
from statebridge.results.donors import same_answer_rows
from statebridge.scoring import row_values
from statebridge.stats import Comparison, Difference, FailureChain, GapClosed, Settings, compare
from statebridge.stats.pairing import is_zero_one
from statebridge.stats.setting import ChannelSetting

ROLE_WORDS: dict[Role, str] = {
    "baseline": "baseline",
    "text": "text relay",
    "channel": "channel under test",
    "self": "self-injection",
    "control": "control",
    "unknown": "undeclared",
}


def shuffled_twins(groups: Sequence[ConditionCells]) -> list[tuple[str, str]]:
    """Return (channel, control) pairs that differ only in whose state is written."""
    declared = {group.condition: group.declared for group in groups}
    return [
        (name, other)
        for name, condition in declared.items()
        for other in declared
        if isinstance(condition, Condition) and condition.is_shuffled_twin(declared[other])
    ]


SENSITIVE = "gold_logprob"
"""The metric that shows most per row where answers show little."""

JUDGED_BY = ("task_correct", "word_boundary_contains", SENSITIVE)
"""Metrics that a verdict rests on, the first that the results hold."""


def sentence(d: Difference) -> str:
    """Say what one condition does against its baseline, and what follows."""
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


def against_relay(
    comparison: Comparison,
    direction: Direction,
    metric: str,
    channels: Sequence[Difference],
    relays: Sequence[Difference],
) -> list[str]:
    """Say what the channels do against each text relay."""
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


def by_logprob(channels: Sequence[Difference]) -> list[str]:
    """Say what the channels do to the gold answer's log-probability; nothing without channels."""
    if not channels:
        return []
    clauses = [f"{d.condition} {_delta(d)}, {_verdict_word(d)}" for d in channels]
    return [
        f"By {metric_label(SENSITIVE)}, more sensitive per row than containment: "
        f"{'; '.join(clauses)}."
    ]


def controls_sentence(controls: Sequence[Difference]) -> list[str]:
    """Say what the controls do; nothing without controls."""
    if not controls:
        return []
    clauses = [f"{d.condition} {signed(d.delta)} ({_verdict_word(d)})" for d in controls]
    return [f"Controls, which carry nothing of the row: {'; '.join(clauses)}."]


def own_against_anothers(
    groups: Sequence[ConditionCells],
    metric: str,
    settings: Settings,
    dataset: Mapping[str, DatasetRow],
) -> dict[str, Difference]:
    """Compare each channel with the control that writes another row's state the same way.

    Returns:
        By channel, its difference from that control.
    """
    found: dict[str, Difference] = {}
    lean = settings.model_copy(update={"stratify_by": ()})
    by_name = {group.condition: group for group in groups}
    for channel, control in shuffled_twins(groups):
        pair = [by_name[channel], by_name[control]]
        if not all(_has_values(group, metric) for group in pair):
            continue
        # Over the rows that the control holds and that got another answer's state there.
        rows = [row for cell in pair[1].cells for row in cell.lanes]
        held = {row.row_id for row in rows}
        held -= {row.row_id for row in rows if row.donor_self_fallback}
        held -= {row_id for cell in pair[1].cells for row_id in same_answer_rows(cell, dataset)}
        if not held:
            continue
        cells = [
            replace(cell, lanes=[row for row in cell.lanes if row.row_id in held])
            for group in pair
            for cell in group.cells
        ]
        comparison = compare(ResultSet(cells), control, metrics=[metric], settings=lean)
        for difference in comparison.differences:
            found[channel] = difference
    return found


def own_content(own: Mapping[str, Difference]) -> list[str]:
    """Say what `own_against_anothers` found."""
    return [
        f"The row's own state ({channel}) against another row's ({d.baseline}): {_delta(d)}, "
        f"{_verdict_word(d)}."
        for channel, d in own.items()
    ]


def _has_values(group: ConditionCells, metric: str) -> bool:
    return any(row_values(cell, metric) for cell in group.cells)


def chain_sentence(chain: FailureChain) -> str:
    """Say what share of a replacement's loss is norm mismatch and what is direction error."""
    text = (
        f"Of what {chain.replaced} loses ({plain(chain.total_loss)}), rescaling "
        f"({chain.corrected}) wins back {signed(chain.norm_loss)}"
    )
    if chain.norm_share is None or chain.direction_share is None:
        return f"{text}; no shares: {chain.no_shares_because}."
    return (
        f"{text}: norm mismatch accounts for {percent(chain.norm_share.value)} "
        f"[{percent(chain.norm_share.interval.low)}, {percent(chain.norm_share.interval.high)}] "
        f"and direction error for {percent(chain.direction_share.value)} "
        f"[{percent(chain.direction_share.interval.low)}, "
        f"{percent(chain.direction_share.interval.high)}] of the loss."
    )


def gap_sentences(comparison: Comparison, setting: ChannelSetting, metric: str) -> list[str]:
    """Say how wide the gap is and what share of it each condition closes."""
    sentences = []
    for each in dict.fromkeys([metric, SENSITIVE]):
        found = [
            gap
            for gap in comparison.gaps_closed
            if (gap.direction, gap.prompt, gap.metric) == (setting.direction, setting.prompt, each)
        ]
        if found:
            sentences.append(_gap_sentence(found, each))
    return sentences


def _gap_sentence(found: Sequence[GapClosed], metric: str) -> str:
    first = found[0]
    level = "" if first.gap_interval is None else f" {interval_text(first.gap_interval)}"
    opening = (
        f"By {metric_label(metric)}, {first.ceiling} lies {plain(first.gap)}{level} above "
        f"{first.floor}"
    )
    shared = [gap for gap in found if gap.share is not None]
    if not shared:
        return f"{opening}; no share of it can be given: {first.no_share_because}."
    return f"{opening}. Share of that gap closed: {'; '.join(_gap_share(gap) for gap in shared)}."


def _gap_share(gap: GapClosed) -> str:
    if gap.share is None:
        return f"{gap.condition} not known ({gap.no_share_because})"
    interval = gap.share.interval
    return f"{gap.condition} {percent(gap.share.value)} [{percent(interval.low)}, " + (
        f"{percent(interval.high)}]"
    )
