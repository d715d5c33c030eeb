"""What a private channel closes of the gap to the skyline, in words."""

from __future__ import annotations

from collections.abc import Sequence

from statebridge.figures.wording import interval_text, metric_label, percent, plain
from statebridge.report.sentences import SENSITIVE
from statebridge.stats import Comparison, GapClosed
from statebridge.stats.setting import ChannelSetting


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
            sentences.append(_sentence(found, each))
    return sentences


def _sentence(found: Sequence[GapClosed], metric: str) -> str:
    first = found[0]
    level = "" if first.gap_interval is None else f" {interval_text(first.gap_interval)}"
    opening = (
        f"By {metric_label(metric)}, {first.ceiling} lies {plain(first.gap)}{level} above "
        f"{first.floor}"
    )
    shared = [gap for gap in found if gap.share is not None]
    if not shared:
        return f"{opening}; no share of it can be given: {first.no_share_because}."
    return f"{opening}. Share of that gap closed: {'; '.join(_share(gap) for gap in shared)}."


def _share(gap: GapClosed) -> str:
    if gap.share is None:
        return f"{gap.condition} not known ({gap.no_share_because})"
    interval = gap.share.interval
    return f"{gap.condition} {percent(gap.share.value)} [{percent(interval.low)}, " + (
        f"{percent(interval.high)}]"
    )
