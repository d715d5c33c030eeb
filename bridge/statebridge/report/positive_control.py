"""Whether the apparatus detected transfer where transfer exists, in words."""

from __future__ import annotations

from dataclasses import dataclass, replace

from statebridge.figures.wording import metric_label
from statebridge.records import ResultSet
from statebridge.report.sentences import JUDGED_BY, gap_sentences, sentence
from statebridge.report.splits_view import too_few_unseen
from statebridge.stats import Difference, compare
from statebridge.stats.setting import channel_settings


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
    "The taught pair in the private setting, its maps trained through the receiver, positive "
    "control of the installation",
)


@dataclass(frozen=True, slots=True)
class PositiveControlView:
    """The result of a run's positive control."""

    detected: bool | None
    """None where it holds nothing to judge by."""
    headline: str
    findings: tuple[str, ...]


def positive_control_view(results: ResultSet) -> PositiveControlView:
    """Judge a run's positive control; without one, say how to get it.

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
    seen = too_few_unseen(results.taught_pair)
    return own, replace(taught, findings=(*taught.findings, *seen))


def _judge(control: ResultSet, channel: _Channel) -> PositiveControlView:
    settings = [s for s in channel_settings(control) if s.prompt == "question_only"]
    if not settings or not {channel.condition, channel.control} <= settings[0].conditions:
        return PositiveControlView(
            None, "The positive control is not finished; run the experiment again.", ()
        )
    comparison = compare(control, also=[channel.control])
    setting = settings[0]

    def against(baseline: str, metric: str) -> Difference | None:
        return comparison.difference(channel.condition, baseline, metric, setting.direction)

    def detected(metric: str) -> bool:
        found = [against(name, metric) for name in (setting.floor, channel.control)]
        return all(each is not None and each.verdict == "higher" for each in found)

    judged = [m for m in JUDGED_BY if against(setting.floor, m) is not None]
    seen = [m for m in judged if detected(m)]
    findings: list[str] = []
    for metric in judged[:1]:
        found = against(setting.floor, metric)
        findings += gap_sentences(comparison, setting, metric)
        findings += [] if found is None else [sentence(found)]
    if not seen:
        return PositiveControlView(
            False,
            f"{channel.what}: transfer was not detected, neither by "
            f"{' nor by '.join(metric_label(m) for m in judged)}. What this report says of other "
            "channels cannot be told from an apparatus that sees nothing.",
            tuple(findings),
        )
    return PositiveControlView(
        True,
        f"{channel.what}: the apparatus detected transfer where transfer exists (by "
        f"{' and by '.join(metric_label(m) for m in seen)}).",
        tuple(findings),
    )
