"""The verdict in words, built from the statistics and from nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from statebridge.experiment.conditions import Prompt
from statebridge.figures.wording import joined, metric_label
from statebridge.records import Direction, ResultSet
from statebridge.report.words.cautions import cautions, unchanged_by_self_injection
from statebridge.report.words.sentences import (
    SENSITIVE,
    against_relay,
    by_logprob,
    chain_sentence,
    controls_sentence,
    gap_sentences,
    judging_metric,
    least_clear,
    own_content,
    own_rows_of,
    sentence,
    within_only,
)
from statebridge.results.by_condition import ConditionCells, condition_cells
from statebridge.stats import Comparison, Difference
from statebridge.stats.comparison import RELATIVE_MARGIN
from statebridge.stats.pairing import is_zero_one
from statebridge.stats.setting import ChannelSetting, channel_settings

DESTROYED = 0.25
"""A condition that keeps less than this share of the baseline's score is called destructive."""


def headline(
    baseline: str,
    metric: str,
    channels: Sequence[Difference],
    controls: Sequence[Difference],
    own: Mapping[str, Difference],
) -> str:
    """Say what the channels under test do to one metric.

    Args:
        baseline: What the differences are from.
        metric: What is judged by.
        channels: Conditions that carry the sender's states, against the baseline.
        controls: Conditions that write noise, zero or another row's state, against the baseline.
        own: By channel, its difference from the control that writes another row's state.
    """
    if not channels:
        return (
            "No verdict on transfer: no condition with a value of "
            f"{metric_label(metric)} writes the sender's states."
        )
    if at_floor(metric, channels):
        return (
            f"No verdict on answers: {metric_label(metric)} is 0 under {baseline} and under every "
            "condition that writes the sender's states, so neither a gain nor a loss could show."
        )
    parts = [_gain_part(baseline, channels, controls, own)]
    parts += _equivalent_parts(baseline, channels)
    within = [d for d in channels if d.is_worse and d.verdict == "different_within"]
    parts += [
        f"{d.condition} worse than {baseline}, and within ±{d.equivalent_within:g}" for d in within
    ]
    lower = [d for d in channels if d.is_worse and d not in within]
    if is_zero_one(metric):
        destroyed = [d for d in lower if d.mean < DESTROYED * d.baseline_mean]
        parts += _named(destroyed, "destructive")
        parts += _named([d for d in lower if d not in destroyed], "harmful")
    else:
        parts += _named(lower, "harmful")
    unclear = [d for d in channels if d.verdict == "inconclusive"]
    parts += [text for d in unclear if (text := within_only(baseline, d))]
    parts += _named([d for d in unclear if not within_only(baseline, d)], "inconclusive")
    none: dict[str, list[Difference]] = {}
    for d in channels:
        if d.verdict is None:
            none.setdefault(d.no_verdict_because or "this mode gives none", []).append(d)
    parts += [f"no verdict on {_listed(those)}: {because}" for because, those in none.items()]
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]} (by {_plain_label(metric)})."


def _plain_label(metric: str) -> str:
    return metric_label(metric).removesuffix(" (nats)")


def at_floor(metric: str, channels: Sequence[Difference]) -> bool:
    """Whether nothing is right under the baseline or any channel, so that nothing can show."""
    return (
        bool(channels)
        and is_zero_one(metric)
        and all(d.mean == d.baseline_mean == 0 for d in channels)
    )


def _gain_part(
    baseline: str,
    channels: Sequence[Difference],
    controls: Sequence[Difference],
    own: Mapping[str, Difference],
) -> str:
    gains = [d for d in channels if d.is_better]
    if not gains:
        unsure = any(d.verdict in ("inconclusive", None) for d in channels)
        return "no gain shown" if unsure else "no stable gain"
    alone = [d for d in gains if d.runs == 1 and d.seeds[0] is not None]
    unsteady = [d for d in gains if d not in alone and not d.same_sign_in_every_seed]
    stable = [d for d in gains if d not in alone and d not in unsteady]
    parts = [f"gain over {baseline} from {_gaining(stable)}"] if stable else []
    if alone:
        parts.append(f"gain over {baseline} from {_gaining(alone)} under one seed, the only one")
    if unsteady:
        parts.append(f"gain over {baseline} from {_gaining(unsteady)}, but not under every seed")
    text = "; ".join(parts) + _transfer(gains, [d for d in controls if d.is_better], own)
    return text if stable else f"no stable gain: {text}"


def _transfer(
    gains: Sequence[Difference], gaining: Sequence[Difference], own: Mapping[str, Difference]
) -> str:
    """Qualify gains by their controls: what is due to the row's own state."""
    compared = [own[d.condition] for d in gains if d.condition in own]
    carried = [d for d in compared if d.is_better]
    if gaining:
        # A map that was trained for answers raises all likely ones, whatever state it is given.
        text = f", but the control {_listed(gaining)} gains too: "
        return text + (
            f"transfer is only what {_listed(carried)} has above another row's state"
            if carried
            else "no evidence of transfer"
        )
    doubtful = [d for d in compared if not d.is_better]
    if doubtful:
        return (
            f", but {_listed(doubtful)} is not shown to be above another row's state, so no "
            "evidence of transfer from it"
        )
    return ""


def _gaining(gains: Sequence[Difference]) -> str:
    return joined(
        [
            f"{d.condition} (within ±{d.equivalent_within:g})"
            if d.verdict == "different_within"
            else d.condition
            for d in gains
        ]
    )


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


SETTING_WORDS: dict[Prompt, str] = {
    "task": "Shared setting: the receiver reads the context",
    "question_only": "Private setting: the receiver reads the question only",
    "placeholder": "Private setting: the receiver reads placeholders and the question",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """Conclusions from the results of one direction, the most important first."""

    direction: Direction
    setting: str
    """Prompt of the receiver, in words; empty where the results hold one setting."""
    headline: str
    findings: tuple[str, ...]
    """One sentence or two each, with the numbers."""
    cautions: tuple[str, ...]
    """Limits that a reader must know before believing the headline."""


def verdicts(results: ResultSet, comparison: Comparison | None) -> list[Verdict]:
    """Return a verdict for each direction that holds rows.

    `comparison` is in the default mode; None where there was nothing to compare with.
    """
    groups = condition_cells(results)
    settings = channel_settings(results)
    found = []
    for direction in dict.fromkeys(group.direction for group in groups):
        here = [group for group in groups if group.direction == direction]
        held = [setting for setting in settings if setting.direction == direction]
        if not held:
            warned = tuple(cautions(results, here, comparison, None, None))
            missing = "the results hold no run without injection (no_inject) to compare with"
            found.append(Verdict(direction, "", f"No verdict: {missing}.", (), warned))
        for setting in held:
            inside = [group for group in here if group.condition in setting.conditions]
            words = SETTING_WORDS[setting.prompt] if len(held) > 1 else ""
            found.append(_verdict(results, inside, comparison, setting, words))
    return found


def _verdict(
    results: ResultSet,
    groups: Sequence[ConditionCells],
    comparison: Comparison | None,
    setting: ChannelSetting,
    words: str,
) -> Verdict:
    direction, baseline = setting.direction, setting.floor
    metric = None if comparison is None else judging_metric(results, comparison)
    warned = tuple(cautions(results, groups, comparison, baseline, metric))
    if comparison is None or metric is None:
        return Verdict(
            direction, words, f"No verdict: there is nothing but {baseline} to report.", (), warned
        )
    found = _found(comparison, direction, baseline, metric)
    sensitive = _found(comparison, direction, baseline, SENSITIVE)
    own = own_rows_of(comparison, setting, metric)
    headlines = [headline(baseline, metric, *_tested(groups, found), least_clear(own))]
    if at_floor(metric, _tested(groups, found)[0]) and sensitive:
        # Where no answer is right, log-probability can still show an effect.
        metric, found = SENSITIVE, sensitive
        own = own_rows_of(comparison, setting, metric)
        headlines.append(headline(baseline, metric, *_tested(groups, found), least_clear(own)))
    channels, controls = _tested(groups, found)
    relays = [found[g.condition] for g in groups if _has_role(g, "text", found)]
    findings = gap_sentences(comparison, setting, metric) if setting.private else []
    findings += [sentence(d) for d in channels]
    if metric != SENSITIVE:
        findings += by_logprob(_tested(groups, sensitive)[0])
    findings += [f"Text relay. {sentence(d)}" for d in relays]
    findings += against_relay(comparison, direction, metric, channels, relays)
    findings += controls_sentence(controls)
    findings += unchanged_by_self_injection(groups, baseline)
    findings += own_content(own)
    findings += [
        text
        for c in comparison.failure_chains
        if (c.direction, c.baseline, c.metric) == (direction, baseline, metric)
        and (text := chain_sentence(c))
    ]
    return Verdict(direction, words, " ".join(headlines), tuple(findings), warned)


def _tested(
    groups: Sequence[ConditionCells], found: dict[str, Difference]
) -> tuple[list[Difference], list[Difference]]:
    """The differences of the channels under test, and those of the controls."""
    channels = [found[g.condition] for g in groups if _has_role(g, "channel", found)]
    controls = [found[g.condition] for g in groups if _has_role(g, "control", found)]
    return channels, controls


def _found(
    comparison: Comparison, direction: Direction, baseline: str, metric: str
) -> dict[str, Difference]:
    return {
        d.condition: d
        for d in comparison.differences
        if (d.direction, d.baseline, d.metric) == (direction, baseline, metric)
    }


def _has_role(group: ConditionCells, wanted: str, found: dict[str, Difference]) -> bool:
    return group.condition in found and group.role == wanted


DIRECTIONS: dict[Direction, str] = {"fwd": "Forward", "rev": "Reverse"}


def verdict_heading(verdict: Verdict) -> str:
    """Return the heading of a verdict in a report that has several."""
    return ". ".join(part for part in (DIRECTIONS[verdict.direction], verdict.setting) if part)


RULE = (
    "How the words are chosen: a gain or a loss is called so if its p-value, corrected by Holm "
    "over all conditions, is below alpha; equivalent, if even the p-value alone is not, and two "
    "one-sided tests (TOST), corrected as well, meet a declared margin and for right answers also "
    f"{100 * RELATIVE_MARGIN:.0f} % of the baseline's score; a difference that does both is called "
    "by its side and its margin; inconclusive otherwise. There is no verdict where nothing is "
    "right under either, nor on a divergence from the baseline itself, which is never below zero. "
    "That a gain is the row's own content needs the difference from another row's state as well, "
    "corrected by Holm over all channels; its interval may be wider than its level needs, since "
    "each state is sent for one row and for another. A gain is stable if every seed shows it. A "
    "loss is "
    f"destructive if less than {100 * DESTROYED:.0f} % of the baseline's score is left."
)
