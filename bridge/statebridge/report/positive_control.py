"""Whether the apparatus detected transfer where transfer exists, in words."""

from __future__ import annotations

from dataclasses import dataclass

from statebridge.figures.wording import metric_label
from statebridge.report.gap_sentences import gap_sentences
from statebridge.report.sentences import SENSITIVE, sentence
from statebridge.results.table import ResultSet
from statebridge.stats import Comparison, Difference, compare
from statebridge.stats.setting import ChannelSetting, channel_settings

CHANNEL, CONTROL = "activation_replace", "activation_replace_shuffled"
_JUDGED_BY = ("task_correct", "word_boundary_contains", SENSITIVE)


@dataclass(frozen=True, slots=True)
class PositiveControlView:
    """What the positive control of a run says."""

    detected: bool | None
    """None where it holds nothing to judge by."""
    headline: str
    findings: tuple[str, ...]


def positive_control_view(results: ResultSet) -> PositiveControlView:
    """Judge a run's positive control; a run without one is told how to get it.

    Transfer counts as detected where the receiver's own last state, taken from the whole
    prompt, raises a judging metric above the question alone (p below alpha after Holm's
    correction) and above what another row's state does.
    """
    control = results.positive_control
    if control is None:
        return PositiveControlView(
            None,
            "No positive control was run: whether this apparatus could have seen transfer on these "
            "rows is not known. Add positive_control: {rows: 64} to the experiment.",
            (),
        )
    settings = [s for s in channel_settings(control) if s.prompt == "question_only"]
    if not settings or not {CHANNEL, CONTROL} <= settings[0].conditions:
        return PositiveControlView(
            None, "The positive control is not finished; run the experiment again.", ()
        )
    comparison = compare(control, also=[CONTROL])
    setting = settings[0]
    judged = [m for m in _JUDGED_BY if _against(comparison, setting, setting.floor, m) is not None]
    seen = [m for m in judged if _detected(comparison, setting, m)]
    findings: list[str] = []
    for metric in judged[:1]:
        found = _against(comparison, setting, setting.floor, metric)
        findings += gap_sentences(comparison, setting, metric)
        findings += [] if found is None else [sentence(found)]
    what = "The receiver paired with itself in the private setting, positive control"
    if not seen:
        return PositiveControlView(
            False,
            f"{what}: transfer was not detected, neither by "
            f"{' nor by '.join(metric_label(m) for m in judged)}. What this report says of other "
            "channels cannot be told from an apparatus that sees nothing.",
            tuple(findings),
        )
    return PositiveControlView(
        True,
        f"{what}: the apparatus detected transfer where transfer exists (by "
        f"{' and by '.join(metric_label(m) for m in seen)}).",
        tuple(findings),
    )


def _against(
    comparison: Comparison, setting: ChannelSetting, baseline: str, metric: str
) -> Difference | None:
    return comparison.difference(CHANNEL, baseline, metric, setting.direction)


def _detected(comparison: Comparison, setting: ChannelSetting, metric: str) -> bool:
    found = [_against(comparison, setting, name, metric) for name in (setting.floor, CONTROL)]
    return all(each is not None and each.verdict == "higher" for each in found)
