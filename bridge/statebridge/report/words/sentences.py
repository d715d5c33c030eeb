"""Differences and shares as sentences, with their numbers, and the words for roles."""

from __future__ import annotations

from collections.abc import Sequence

from statebridge.experiment.conditions import Role
from statebridge.figures.wording import (
    compared_label,
    interval_text,
    metric_label,
    percent,
    plain,
    signed,
)
from statebridge.records import Direction, ResultSet
from statebridge.scoring import primary_metric
from statebridge.stats import Comparison, Difference, FailureChain, GapClosed, Share
from statebridge.stats.comparison import measures_change
from statebridge.stats.pairing import is_bounded, is_zero_one
from statebridge.stats.setting import ChannelSetting
from statebridge.tables.table import digits_that_differ

ROLE_WORDS: dict[Role, str] = {
    "baseline": "baseline",
    "text": "text relay",
    "channel": "channel under test",
    "self": "self-injection",
    "control": "control",
    "unknown": "undeclared",
}


SENSITIVE = "gold_logprob"
"""The metric that shows most per row where answers show little."""

JUDGED_BY = ("task_correct", "word_boundary_contains", SENSITIVE)
"""Metrics that a verdict may rest on where a comparison lacks the primary one."""


def judging_metric(results: ResultSet, comparison: Comparison) -> str:
    """Return the metric that the verdict rests on: the primary one of the results' task.

    Where the comparison lacks it, the first of the others by which a verdict makes sense.
    """
    order = (primary_metric(results), *JUDGED_BY)
    return next((m for m in order if m in comparison.metrics), comparison.metrics[0])


def sentence(d: Difference) -> str:
    """Say what one condition does against its baseline, and what follows."""
    counts = d.counts
    text = (
        f"{d.condition}: {plain(d.mean)} against {plain(d.baseline_mean)} under {d.baseline}, a "
        f"difference of {_delta(d)}"
    )
    if is_zero_one(d.metric) and not measures_change(d.metric):
        over = f" over {d.runs} runs" if d.runs > 1 else ""
        text += f", {counts.gained} rows gained and {counts.lost} lost{over}"
    return f"{text}. {_meaning(d)}"


def _delta(d: Difference) -> str:
    of = "median row, " if d.centre == "median" else ""
    if d.interval is None:
        return f"{signed(d.delta)} ({of}no interval)"
    digits = digits_that_differ(d.interval.low, d.interval.high, 4)
    return (
        f"{signed(d.delta, digits)} ({of}{100 * d.interval.level:.4g} % interval "
        f"{interval_text(d.interval)})"
    )


def _meaning(d: Difference) -> str:
    if d.verdict is None:
        return f"No verdict: {d.no_verdict_because or 'this mode gives none'}.{_ruled_out(d)}"
    seeds = "" if d.same_sign_in_every_seed or d.runs == 1 else ", but not under every seed"
    tested = f"p {_p(d.p_holm)} after Holm's correction"
    if d.verdict == "different_within":
        return (
            f"{_SIDES[_side(d)]} the baseline ({tested}){seeds}, and within "
            f"±{d.equivalent_within:g} of it."
        )
    if d.verdict in _SIDES:
        return f"{_SIDES[d.verdict]} the baseline ({tested}){seeds}."
    if d.verdict == "equivalent":
        return f"Equivalent within ±{d.equivalent_within:g}.{_ruled_out(d)}"
    return f"Inconclusive: {_why_inconclusive(d)}."


_SIDES = {
    "better": "Better than",
    "worse": "Worse than",
    "higher": "Higher than",
    "lower": "Lower than",
}


def _side(d: Difference) -> str:
    return "better" if d.is_better else "worse"


def _ruled_out(d: Difference) -> str:
    if d.equivalence is None:
        return ""
    found = d.equivalence
    return (
        f" A true difference beyond ±{plain(found.ruled_out)} is ruled out (TOST, one-sided "
        f"{100 * (1 - found.alpha):.4g} %)."
    )


def _why_inconclusive(d: Difference) -> str:
    if d.interval is not None and d.interval.excludes(0):
        if d.p is not None and d.p > 1 - d.interval.level:
            return (
                f"the interval leaves out 0, but the test does not reject (p {_p(d.p)}); the two "
                "are different methods near the border, and the verdict is the test's"
            )
        return (
            f"a difference if it were tested alone (p {_p(d.p)}), none after Holm's correction "
            f"over {d.family} tests (p {_p(d.p_holm)})"
        )
    if d.met_margin is not None and d.equivalent_within is None:
        return (
            f"within ±{d.met_margin:g}, but not shown to be within {_relative(d)} of the "
            f"baseline's {plain(d.baseline_mean)}"
        )
    text = "neither a difference nor equivalence was shown"
    smallest = d.effect.minimal_detectable if d.effect else None
    if smallest is not None:
        text += (
            f"; with {d.n_rows} rows and {d.family} test{'' if d.family == 1 else 's'} only a "
            f"difference of about {smallest:.3g} is likely found"
        )
    return text


def _relative(d: Difference) -> str:
    share = None if d.equivalence is None else d.equivalence.relative_margin
    return "–" if share is None else percent(share)


def within_only(baseline: str, d: Difference) -> str:
    """Say that a margin was met that is a large share of the baseline; empty where none was."""
    if d.verdict != "inconclusive" or d.met_margin is None or d.equivalent_within is not None:
        return ""
    return (
        f"{d.condition} within ±{d.met_margin:g} of {baseline}, but not shown to be within "
        f"{_relative(d)} of its score"
    )


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
    if d.verdict == "different_within":
        return f"{_side(d)}, and within ±{d.equivalent_within:g}"
    if d.verdict is None:
        return f"no verdict: {d.no_verdict_because}" if d.no_verdict_because else "no verdict"
    return d.verdict


def by_logprob(channels: Sequence[Difference]) -> list[str]:
    """Say what the channels do to the gold answer's log-probability; nothing without channels."""
    if not channels:
        return []
    return [
        f"By {metric_label(SENSITIVE)}, more sensitive per row than containment: "
        f"{_clauses(channels)}."
    ]


def on_seen_rows(channels: Sequence[Difference], rows: int) -> list[str]:
    """Say what maps do on rows whose answers they were trained on; nothing without maps."""
    if not channels:
        return []
    return [
        f"On the other {rows} rows, whose answers a map was trained on, by "
        f"{metric_label(channels[0].metric)}: {_clauses(channels)}."
    ]


def _clauses(channels: Sequence[Difference]) -> str:
    return "; ".join(f"{d.condition} {_delta(d)}, {_verdict_word(d)}" for d in channels)


def controls_sentence(controls: Sequence[Difference]) -> list[str]:
    """Say what the controls do; nothing without controls."""
    if not controls:
        return []
    clauses = [f"{d.condition} {signed(d.delta)} ({_verdict_word(d)})" for d in controls]
    return [f"Controls: {'; '.join(clauses)}."]


def own_rows_of(comparison: Comparison, setting: ChannelSetting, metric: str) -> list[Difference]:
    """Return the differences of a setting's channels from another row's state, by one metric."""
    return [
        d
        for d in comparison.own_rows
        if (d.direction, d.metric) == (setting.direction, metric)
        and {d.condition, d.baseline} <= setting.conditions
    ]


def least_clear(own: Sequence[Difference]) -> dict[str, Difference]:
    """Return by channel its difference from the control that it is least clearly above."""
    found: dict[str, Difference] = {}
    for d in own:
        other = found.get(d.condition)
        if other is None or (d.is_better, d.delta) < (other.is_better, other.delta):
            found[d.condition] = d
    return found


def own_content(own: Sequence[Difference]) -> list[str]:
    """Say what each channel has above another row's state."""
    return [
        f"The row's own state ({d.condition}) against another row's ({d.baseline}), by "
        f"{compared_label(d.metric)}: {_delta(d)}, {_verdict_word(d)}."
        for d in own
    ]


def chain_sentence(chain: FailureChain) -> str:
    """Say how much of a replacement's loss the right norm wins back; empty without a loss."""
    loss = chain.total_loss_interval
    if loss is None or loss.low <= 0:
        return ""
    text = (
        f"Of what {chain.replaced} loses ({plain(chain.total_loss)}), rescaling to the receiver's "
        f"norm ({chain.corrected}) wins back {signed(chain.norm_loss)}"
    )
    if chain.norm_share is None or chain.direction_share is None:
        return f"{text}; no shares: {chain.no_shares_because}."
    return (
        f"{text}, {share_text(chain.norm_share)} of the loss; "
        f"{share_text(chain.direction_share)} is not won back. These are the shares of this order "
        "of steps, and not of two causes."
    )


def share_text(share: Share) -> str:
    """Return a share with its interval, as `50 % [42 %, 57 %]`."""
    ends = share.interval
    digits = digits_that_differ(100 * ends.low, 100 * ends.high, 0)
    value, low, high = (percent(each, digits) for each in (share.value, ends.low, ends.high))
    return f"{value} [{low}, {high}]"


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
    opening = f"By {metric_label(metric)}, the gap from {first.floor} to {first.ceiling} is "
    opening += plain(first.gap)
    if not is_bounded(metric):
        opening += " in the median row"
    if first.gap_interval is not None:
        opening += f" {interval_text(first.gap_interval)}"
    shared = [gap for gap in found if gap.share is not None]
    if not shared:
        return f"{opening}; no share of it can be given: {first.no_share_because}."
    shares = "; ".join(
        f"{gap.condition} {share_text(gap.share)}" for gap in shared if gap.share is not None
    )
    silent = [gap for gap in found if gap.share is None]
    unknown = "".join(f"; {gap.condition} not known ({gap.no_share_because})" for gap in silent)
    return (
        f"{opening}. Share of that gap closed: {shares}{unknown}. Each interval is of one "
        "condition alone; the verdicts are corrected for the number of conditions."
    )
