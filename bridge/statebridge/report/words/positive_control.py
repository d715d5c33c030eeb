"""Whether the apparatus detected transfer where transfer exists, in words."""

from __future__ import annotations

from dataclasses import dataclass, replace

from statebridge.figures.wording import metric_label
from statebridge.records import ResultSet
from statebridge.report.sections.splits import all_new, too_few_unseen
from statebridge.report.words.sentences import (
    gap_sentences,
    judging_metric,
    least_clear,
    own_content,
    own_rows_of,
    sentence,
)
from statebridge.stats import Comparison, compare
from statebridge.stats.setting import ChannelSetting, channel_settings


@dataclass(frozen=True, slots=True)
class _Channel:
    """The condition of a control that carries content, and the one that must not."""

    condition: str
    control: str
    what: str


_SAME_MODEL = _Channel(
    "activation_replace",
    "activation_replace_shuffled",
    "The receiver paired with itself in the private setting, positive control",
)
_TAUGHT_PAIR = _Channel(
    "private_last",
    "private_last_shuffled",
    "The taught pair in the private setting, with names that are new to its maps, positive control "
    "of the installation",
)


@dataclass(frozen=True, slots=True)
class PositiveControlView:
    """The result of a run's positive control."""

    detected: bool | None
    """None where it holds nothing to judge by, or nothing to detect."""
    headline: str
    findings: tuple[str, ...]


def positive_control_view(results: ResultSet) -> PositiveControlView:
    """Judge a run's positive control; without one, say how to get it.

    Transfer counts as detected where the receiver's own last state, taken from the whole
    prompt, raises the primary metric above the question alone and above what another row's state
    does (both after Holm's correction). No other metric decides. Where the whole prompt itself
    does not raise it, there is nothing to detect.
    """
    control = results.positive_control
    if control is None:
        return PositiveControlView(
            None,
            "No positive control was run: whether this apparatus could have seen transfer on these "
            "rows is not known. Add positive_control: {rows: 64} to the experiment.",
            (),
        )
    return _judge(control, _SAME_MODEL)


def positive_control_views(results: ResultSet) -> tuple[PositiveControlView, ...]:
    """Judge a run's control on its own receiver and, where it has one, that on the taught pair.

    Where the first sees nothing and the second does, the installation can see transfer and the
    receiver's last state holds none; where both see nothing, look for a fault.
    """
    own = positive_control_view(results)
    if results.taught_pair is None:
        return (own,)
    taught = _judge(results.taught_pair, _TAUGHT_PAIR)
    answers = [*all_new(results.taught_pair), *too_few_unseen(results.taught_pair)]
    return own, replace(taught, findings=(*taught.findings, *answers))


def _judge(control: ResultSet, channel: _Channel) -> PositiveControlView:
    settings = [s for s in channel_settings(control) if s.prompt == "question_only"]
    if not settings or not {channel.condition, channel.control} <= settings[0].conditions:
        return PositiveControlView(
            None, "The positive control is not finished; run the experiment again.", ()
        )
    comparison, setting = compare(control), settings[0]
    metric = judging_metric(control, comparison)
    names = (channel.condition, setting.floor, metric, setting.direction)
    against_floor = comparison.difference(*names)
    own = least_clear(own_rows_of(comparison, setting, metric)).get(channel.condition)
    findings = gap_sentences(comparison, setting, metric)
    findings += [] if against_floor is None else [sentence(against_floor)]
    findings += [] if own is None else own_content([own])
    by = metric_label(metric)
    if not _gap_is_clear(comparison, setting, metric):
        return PositiveControlView(
            None,
            f"{channel.what}: nothing to detect by {by}, since {setting.ceiling or 'a skyline'} is "
            f"not clearly above {setting.floor} on these rows. Whether this apparatus could have "
            "seen transfer is not known.",
            tuple(findings),
        )
    if against_floor is None or own is None or not (against_floor.is_better and own.is_better):
        return PositiveControlView(
            False,
            f"{channel.what}: transfer was not detected by {by}. What this report says of other "
            "channels cannot be told from an apparatus that sees nothing.",
            tuple(findings),
        )
    return PositiveControlView(
        True,
        f"{channel.what}: the apparatus detected transfer where transfer exists (by {by}).",
        tuple(findings),
    )


def _gap_is_clear(comparison: Comparison, setting: ChannelSetting, metric: str) -> bool:
    """Whether the skyline is clearly above the floor, so that there is something to detect."""
    if setting.ceiling is None:
        return False
    gap = comparison.difference(setting.ceiling, setting.floor, metric, setting.direction)
    return gap is not None and gap.is_better
