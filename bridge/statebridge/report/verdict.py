"""The verdict in words, built from the statistics and from nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from statebridge.experiment.conditions import Prompt
from statebridge.records import Direction, ResultSet
from statebridge.report.cautions import cautions, unchanged_by_self_injection
from statebridge.report.gap_sentences import gap_sentences
from statebridge.report.headline import at_floor, headline
from statebridge.report.sentences import (
    SENSITIVE,
    against_relay,
    by_logprob,
    chain_sentence,
    controls_sentence,
    own_against_anothers,
    own_content,
    sentence,
)
from statebridge.results.by_condition import ConditionCells, condition_cells
from statebridge.stats import Comparison, Difference
from statebridge.stats.setting import ChannelSetting, channel_settings

SETTING_WORDS: dict[Prompt, str] = {
    "task": "Shared setting: the receiver reads the context",
    "question_only": "Private setting: the receiver reads the question only",
    "placeholder": "Private setting: the receiver reads placeholders and the question",
}

_JUDGED_BY = ("task_correct", "word_boundary_contains", SENSITIVE)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the results of one direction say, the most important first."""

    direction: Direction
    setting: str
    """What the receiver reads, in words; empty where the results hold one setting."""
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
    metric = None if comparison is None else judging_metric(comparison)
    warned = tuple(cautions(results, groups, comparison, baseline, metric))
    if comparison is None or metric is None:
        return Verdict(
            direction, words, f"No verdict: there is nothing but {baseline} to report.", (), warned
        )
    found = _found(comparison, direction, baseline, metric)
    sensitive = _found(comparison, direction, baseline, SENSITIVE)
    own = own_against_anothers(groups, metric, comparison.settings)
    headlines = [headline(baseline, metric, *_tested(groups, found), own)]
    if at_floor(metric, _tested(groups, found)[0]) and sensitive:
        # Where no answer is right, log-probability can still tell.
        metric, found = SENSITIVE, sensitive
        own = own_against_anothers(groups, metric, comparison.settings)
        headlines.append(headline(baseline, metric, *_tested(groups, found), own))
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
        chain_sentence(c)
        for c in comparison.failure_chains
        if (c.direction, c.baseline, c.metric) == (direction, baseline, metric) and c.total_loss > 0
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
