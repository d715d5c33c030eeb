"""A report's first screen: each setting's answer in one sentence, its figure, three numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from statebridge.figures.channels import ChannelChart, ChannelLine, Point, channel_chart
from statebridge.figures.wording import (
    compared_label,
    interval_text,
    joined,
    metric_label,
    signed,
    value_text,
)
from statebridge.records import ResultSet
from statebridge.report.words.sentences import (
    SENSITIVE,
    judging_metric,
    least_clear,
    own_rows_of,
    share_text,
)
from statebridge.report.words.verdict import DIRECTIONS, SETTING_WORDS, at_floor
from statebridge.scoring.measures import MEASURES
from statebridge.stats import Comparison, Difference
from statebridge.stats.setting import ChannelSetting, channel_settings

Outcome = Literal["yes", "no", "not shown", "no verdict"]
"""`yes`: a channel is above floor and another row's state. `no`: every channel is shown to be worse
than the floor, or equivalent to it. `not shown`: anything else that was measured."""


@dataclass(frozen=True, slots=True)
class Number:
    """One of the three numbers below a figure."""

    label: str
    value: str
    ends: str = ""
    """Its interval."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A setting's results in short: the answer to the question of the report."""

    outcome: Outcome
    sentence: str
    chart: ChannelChart | None
    numbers: tuple[Number, ...]


def answer(
    results: ResultSet,
    comparison: Comparison | None,
    setting: ChannelSetting,
    seen: Comparison | None = None,
) -> Answer:
    """Return the answer of one setting, by the primary metric.

    Where no answer is right under floor and channels, by the gold log-probability.
    """
    if comparison is None:
        return Answer("no verdict", f"There is nothing but {setting.floor} to report.", None, ())
    metric = judging_metric(results, comparison)
    chart = channel_chart(results, comparison, setting, metric, seen)
    channels = _channels(chart)
    opening = ""
    if at_floor(metric, channels) and SENSITIVE in comparison.metrics and metric != SENSITIVE:
        opening = f"No answer is right, with the channel or without it. By {_label(SENSITIVE)}: "
        metric = SENSITIVE
        chart = channel_chart(results, comparison, setting, metric, seen)
        channels = _channels(chart)
    if chart is None or not channels:
        return Answer("no verdict", "No condition writes the sender's states here.", chart, ())
    if at_floor(metric, channels):
        text = "No answer is right, with the channel or without it: neither gain nor loss can show."
        return Answer("no verdict", text, chart, ())
    own = least_clear(own_rows_of(comparison, setting, metric))
    outcome, best, text = _judged(chart, own)
    numbers = _numbers(comparison, setting, metric, best, unseen=seen is not None)
    return Answer(outcome, f"{opening}{text}", chart, numbers)


def setting_answers(
    results: ResultSet, comparison: Comparison | None, seen: Comparison | None = None
) -> tuple[tuple[str, Answer], ...]:
    """Return heading and answer of every setting; parameters as of `answer`.

    Private ones are first: only there is what the sender has read unknown to the receiver.
    """
    settings = sorted(channel_settings(results), key=lambda one: not one.private)
    both = len({setting.direction for setting in settings}) > 1
    found = []
    for setting in settings:
        heading = SETTING_WORDS[setting.prompt]
        if both:
            heading = f"{DIRECTIONS[setting.direction]}. {heading}"
        found.append((heading, answer(results, comparison, setting, seen)))
    return tuple(found)


def _channels(chart: ChannelChart | None) -> list[Difference]:
    if chart is None:
        return []
    return [line.point.difference for line in chart.lines if line.role == "channel"]


def _label(metric: str) -> str:
    return metric_label(metric).removesuffix(" (nats)")


def _judged(chart: ChannelChart, own: Mapping[str, Difference]) -> tuple[Outcome, ChannelLine, str]:
    """The outcome, the channel that it rests on, and the sentence."""
    lines = [line for line in chart.lines if line.role == "channel"]
    gains = [line for line in lines if line.point.difference.is_better]
    carried = [line for line in gains if line.point.name in own and own[line.point.name].is_better]
    if carried:
        return "yes", carried[0], _carried(chart, carried)
    if gains:
        return "not shown", gains[0], _unproven(chart, gains, own)
    outcome: Outcome = "not shown"
    if all(d.is_worse or d.verdict == "equivalent" for d in _channels(chart)):
        outcome = "no"
    return outcome, lines[0], _no_gain(chart, _channels(chart))


def _carried(chart: ChannelChart, carried: Sequence[ChannelLine]) -> str:
    best = carried[0]
    d = best.point.difference
    text = f"{_capital(best.words)} ({d.condition}), {_amount(chart, d)}"
    if len(carried) > 1:
        count = len(carried) - 1
        text += f" ({count} other channel{'s carry' if count > 1 else ' carries'} something too)"
    if d.runs == 1 and d.seeds[0] is not None:
        text += ", under one seed only"
    elif not d.same_sign_in_every_seed:
        text += ", though not under every seed"
    gaining = [
        "another row's state" if point.word == "another row's" else point.word
        for point in best.controls
        if point.difference.is_better
    ]
    if gaining:
        text += f"; but so does the control with {joined(gaining)}, in part"
    return f"{text}."


def _amount(chart: ChannelChart, d: Difference) -> str:
    """Say how much a channel gives, beside floor, control and skyline."""
    metric, value = chart.metric, value_text(chart.metric, Point(d, "").value)
    line = next(line for line in chart.lines if line.point.name == d.condition)
    other = next((p for p in line.controls if p.word == "another row's"), None)
    others = [] if other is None else [(other.value, "with another row's state")]
    if chart.skyline is not None:
        others.append((chart.skyline, "for a receiver that reads the context"))
    if d.centre == "median":
        changes = [f"{signed(other, 2)} {words}" for other, words in others]
        beside = f"; it is {joined(changes)}" if changes else ""
        return f"changes the median row's {compared_label(metric)} by {signed(d.delta, 2)}{beside}"
    others.insert(0, (chart.floor, "without it"))
    beside = joined([f"{value_text(metric, other)} {words}" for other, words in others])
    noun = "right answers" if MEASURES[metric].kind == "zero_one" else _label(metric)
    return f"gives {value} {noun}: {beside}"


def _unproven(
    chart: ChannelChart, gains: Sequence[ChannelLine], own: Mapping[str, Difference]
) -> str:
    best = gains[0]
    d = best.point.difference
    text = f"{_capital(best.words)} ({d.condition}), {_amount(chart, d)}"
    if d.condition in own:
        return (
            f"{text}; but it is not shown to be above another row's state, so this may be the "
            "map's doing."
        )
    return f"{text}; but no control with another row's state was run, so it may not be transfer."


def _no_gain(chart: ChannelChart, channels: Sequence[Difference]) -> str:
    counts = [
        (sum(d.is_worse for d in channels), "worse"),
        (sum(d.verdict == "equivalent" for d in channels), "equivalent"),
        (sum(d.verdict == "inconclusive" for d in channels), "inconclusive"),
        (sum(d.verdict is None for d in channels), "without a verdict"),
    ]
    parts = [f"{count} {'is' if count == 1 else 'are'} {word}" for count, word in counts if count]
    which = "The channel is not" if len(channels) == 1 else f"None of {len(channels)} channels is"
    floor = f" ({value_text(chart.metric, chart.floor)})"
    if channels[0].centre == "median":
        floor = ""
    return f"{which} shown to be better than {chart.setting.floor}{floor}: {joined(parts)}."


def _numbers(
    comparison: Comparison, setting: ChannelSetting, metric: str, best: ChannelLine, *, unseen: bool
) -> tuple[Number, ...]:
    """The best channel, its control, and rows."""
    d = best.point.difference
    other = next((p for p in best.controls if p.word == "another row's"), None)
    other = other or next(iter(best.controls), None)
    shares = {
        gap.condition: gap.share
        for gap in comparison.gaps_closed
        if (gap.direction, gap.prompt, gap.metric) == (setting.direction, setting.prompt, metric)
    }
    # Of a channel that was not shown to help, the number is the highest of several.
    which = (
        "with its 95 % interval" if d.is_better else "the highest, not shown to be above the floor"
    )
    pairs = [(d, f"{d.condition}, {which}")]
    pairs += [] if other is None else [(other.difference, f"its control, {other.word}")]
    numbers = []
    for difference, label in pairs:
        share = shares.get(difference.condition)
        if share is not None:
            value, ends = share_text(share).split(" [")
            numbers.append(Number(f"of the gap closed by {label}", value, f"[{ends}"))
        else:
            change = f"change in {compared_label(metric)} by {label}"
            ends = interval_text(difference.interval, 3)
            numbers.append(Number(change, signed(difference.delta, 3), ends))
    rows = "rows whose answers no map was trained on" if unseen else "rows"
    runs = f", {d.runs} seeds" if d.runs > 1 else ""
    return (*numbers, Number(f"{rows}{runs}", f"n = {d.n_rows}"))


def _capital(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}"
