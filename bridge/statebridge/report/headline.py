"""The headline: gain, equivalence and harm in one sentence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from statebridge.figures.wording import joined, metric_label
from statebridge.stats import Difference
from statebridge.stats.pairing import is_zero_one

DESTROYED = 0.25
"""A condition that keeps less than this share of the baseline's score is called destructive."""

_LOWER_IS_BETTER = ("gold_rank",)


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
        controls: Conditions that carry nothing of the row, against the baseline.
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
    lower = [d for d in channels if _worse(d)]
    if is_zero_one(metric):
        destroyed = [d for d in lower if d.mean < DESTROYED * d.baseline_mean]
        parts += _named(destroyed, "destructive")
        parts += _named([d for d in lower if d not in destroyed], "harmful")
    else:
        parts += _named(lower, "harmful")
    parts += _named([d for d in channels if d.verdict == "inconclusive"], "inconclusive")
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
    gains = [d for d in channels if _better(d)]
    if not gains:
        unsure = any(d.verdict == "inconclusive" for d in channels)
        return "no gain shown" if unsure else "no stable gain"
    alone = [d for d in gains if d.runs == 1 and d.seeds[0] is not None]
    unsteady = [d for d in gains if d not in alone and not d.same_sign_in_every_seed]
    stable = [d for d in gains if d not in alone and d not in unsteady]
    parts = [f"gain over {baseline} from {_listed(stable)}"] if stable else []
    if alone:
        parts.append(f"gain over {baseline} from {_listed(alone)} under one seed, the only one")
    if unsteady:
        parts.append(f"gain over {baseline} from {_listed(unsteady)}, but not under every seed")
    text = "; ".join(parts)
    gaining = [d for d in controls if _better(d)]
    if gaining:
        text += f", but the control {_listed(gaining)} gains too: "
        # A map that was trained for answers raises all likely ones, whatever state it is given.
        carried = [own[d.condition] for d in gains if d.condition in own]
        carried = [difference for difference in carried if _better(difference)]
        text += (
            f"transfer is only what {_listed(carried)} has above another row's state"
            if carried
            else "no evidence of transfer"
        )
    return text if stable else f"no stable gain: {text}"


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
