"""Comparing conditions with baselines: from a result set to every paired difference."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set

from statebridge.errors import ResultError, nearest
from statebridge.experiment.conditions import Prompt
from statebridge.records import Direction, ResultSet
from statebridge.scoring.measures import MEASURES, primary_metric
from statebridge.stats.comparison import (
    ATTRIBUTES,
    MODES,
    Comparison,
    ComparisonMode,
    Difference,
    FailureChain,
    GapClosed,
    MessageBits,
    Mode,
    Settings,
    Stratification,
)
from statebridge.stats.difference import clustered_difference
from statebridge.stats.information.bits import MEASURE, message_bits
from statebridge.stats.own_row import own_row_differences
from statebridge.stats.pairing import PairedCondition, Pairing, is_bounded
from statebridge.stats.setting import ChannelSetting, channel_settings
from statebridge.stats.shares import CORRECTED, REPLACED, failure_chain, gaps_closed
from statebridge.stats.strata import check_attributes, stratifications
from statebridge.stats.verdicts import judged

PUBLISHED_METRICS = ("word_boundary_contains", "legacy_contains", "normalized_exact_match")
CONTINUOUS_METRICS = ("gold_logprob", "gold_rank", "kl_from_no_inject")


def compare(
    results: ResultSet,
    baseline: str | Sequence[str] | None = None,
    *,
    also: Sequence[str] = (),
    metrics: Sequence[str] | None = None,
    mode: Mode = "clustered",
    settings: Settings | None = None,
) -> Comparison:
    """Compare every condition with one or more baselines, paired by row.

    Without a baseline, each condition is compared within its setting: with what the receiver
    does alone with the same prompt (`no_inject`, `question_only`, ...), and with those of
    `also` that belong to the setting. Given baselines are compared with everything.

    Directions are kept apart. `metrics` defaults to the three published ones and, in the
    default mode, to the primary metric of the task, which comes first, and the continuous ones
    that the results hold. Neither the order of cells and
    rows nor what else is in the result set changes a difference, except `p_holm` and
    `verdict`, which depend on the family of conditions by definition.

    Raises:
        ResultError: An unknown metric, an attribute that no row has, a missing baseline, nothing
            to compare, or rows that cannot be paired (see `Pairing.pair`).
    """
    settings = settings or Settings()
    how = MODES.get(mode)
    if settings.stratify_by != ATTRIBUTES:
        check_attributes(results, settings.stratify_by)
    pairing = Pairing(results, log_ranks=how.extended)
    warnings: list[str] = []
    offered = how.metrics
    if how.extended:
        offered = tuple(dict.fromkeys([primary_metric(results), *offered]))
    chosen = _metrics(pairing, metrics, offered)
    settings_here = channel_settings(results)
    if baseline is None and settings_here:
        pairs, baselines = _pairs_within(pairing, settings_here, also, chosen, warnings)
    else:
        given = (baseline or "no_inject",) if isinstance(baseline, str | None) else baseline
        baselines = tuple(dict.fromkeys([*given, *also]))
        pairs = list(_pairs(pairing, baselines, chosen, warnings))
    if not pairs:
        raise ResultError(
            f"there is nothing to compare with {', '.join(baselines)}: no other condition has "
            f"a value of {', '.join(chosen) or 'any metric'}"
        )
    by_stratum: list[Stratification] = []
    chains: list[FailureChain] = []
    gaps: list[GapClosed] = []
    bits: list[MessageBits] = []
    own: list[Difference] = []
    differences = how.differences(pairs, settings)
    if how.extended:
        by_stratum = stratifications(results, pairs, settings, warnings)
        chains = _failure_chains(pairing, pairs, settings, warnings)
        own = own_row_differences(results, pairing, settings_here, chosen, settings, warnings)
        for setting in settings_here:
            gaps += gaps_closed(pairing, setting, chosen, level=settings.level)
        if baseline is None and MEASURE in chosen:
            bits = message_bits(results, settings)
    warnings += [line for paired in pairs for line in paired.warnings]
    return Comparison(
        mode=mode,
        settings=settings,
        baselines=baselines,
        metrics=chosen,
        differences=tuple(differences),
        stratifications=tuple(by_stratum),
        failure_chains=tuple(chains),
        gaps_closed=tuple(gaps),
        bits=tuple(bits),
        own_rows=tuple(own),
        warnings=tuple(dict.fromkeys(warnings)),
    )


def _metrics(
    pairing: Pairing, asked: Sequence[str] | None, offered: Sequence[str]
) -> tuple[str, ...]:
    for metric in asked or ():
        if metric not in MEASURES:
            raise ResultError(f"unknown metric {metric!r}; {nearest(metric, MEASURES)}")
    if asked is not None:
        return tuple(dict.fromkeys(asked))
    return tuple(
        metric
        for metric in offered
        if any(
            pairing.has_values(direction, condition, metric)
            for direction in pairing.directions
            for condition in pairing.conditions(direction)
        )
    )


def _pairs(
    pairing: Pairing, baselines: Sequence[str], metrics: Sequence[str], warnings: list[str]
) -> Iterable[PairedCondition]:
    for baseline in baselines:
        holding = [d for d in pairing.directions if pairing.cells(d, baseline)]
        if not holding:
            known = {c for d in pairing.directions for c in pairing.conditions(d)}
            raise ResultError(
                f"no result is of the baseline {baseline!r}; {nearest(baseline, known)}"
            )
        for direction in pairing.directions:
            if direction not in holding:
                warnings.append(
                    f"{direction}: has no {baseline}; nothing is compared with it there"
                )
                continue
            for metric in metrics:
                yield from _pairs_of(pairing, direction, baseline, metric, warnings)


def _pairs_within(
    pairing: Pairing,
    settings: Sequence[ChannelSetting],
    also: Sequence[str],
    metrics: Sequence[str],
    warnings: list[str],
) -> tuple[list[PairedCondition], tuple[str, ...]]:
    """Pair the conditions of each setting with its floor and with those of `also` in it."""
    pairs: list[PairedCondition] = []
    baselines: dict[str, None] = {}
    for direction in pairing.directions:
        if not any(setting.direction == direction for setting in settings):
            warnings.append(f"{direction}: has no no_inject; nothing is compared with it there")
    for setting in settings:
        for baseline in dict.fromkeys([setting.floor, *also]):
            if baseline not in setting.conditions:
                continue
            baselines[baseline] = None
            for metric in metrics:
                pairs += _pairs_of(
                    pairing, setting.direction, baseline, metric, warnings, setting.conditions
                )
    return pairs, tuple(baselines)


def _pairs_of(
    pairing: Pairing,
    direction: Direction,
    baseline: str,
    metric: str,
    warnings: list[str],
    among: Set[str] | None = None,
) -> Iterable[PairedCondition]:
    elsewhere = []
    if not pairing.has_values(direction, baseline, metric) and (
        metric != "kl_from_no_inject" or baseline != "no_inject"
    ):
        warnings.append(f"{baseline} ({direction}): no row has a value of {metric}")
        return
    for condition in pairing.conditions(direction):
        if condition == baseline or (among is not None and condition not in among):
            continue
        if metric == "kl_from_no_inject" and _kl_prompt(
            pairing, direction, condition
        ) != _kl_prompt(pairing, direction, baseline):
            elsewhere.append(condition)
        elif pairing.has_values(direction, condition, metric):
            yield pairing.pair(direction, condition, baseline, metric)
        else:
            warnings.append(f"{condition} ({direction}): no row has a value of {metric}")
    if elsewhere:
        warnings.append(
            f"{metric} against {baseline} ({direction}): the divergence of {', '.join(elsewhere)} "
            "was measured from the receiver alone with another prompt, so it is left out; a "
            f"divergence from {baseline} was not measured there"
        )


def _kl_prompt(pairing: Pairing, direction: Direction, condition: str) -> Prompt:
    """The prompt with which the receiver alone is what the divergence is measured from."""
    declared = pairing.cells(direction, condition)[0].condition
    return declared.prompt if declared.private else "task"


def _clustered(pairs: Sequence[PairedCondition], settings: Settings) -> list[Difference]:
    differences = [clustered_difference(paired, settings) for paired in pairs]
    families = [(d.direction, d.baseline, d.metric) for d in differences]
    return judged(pairs, differences, families, settings)


MODES.add("clustered")(
    ComparisonMode(
        ("task_correct", *PUBLISHED_METRICS, *CONTINUOUS_METRICS), _clustered, extended=True
    )
)


def _failure_chains(
    pairing: Pairing,
    pairs: Sequence[PairedCondition],
    settings: Settings,
    warnings: list[str],
) -> list[FailureChain]:
    """One chain for each direction, baseline and metric under which both ends were compared."""
    compared = {paired.key for paired in pairs}
    chains = []
    for direction, baseline, metric in dict.fromkeys(
        (paired.direction, paired.baseline, paired.metric) for paired in pairs
    ):
        ends = {(direction, name, baseline, metric) for name in (REPLACED, CORRECTED)}
        # There is such a thing as a loss only where more is better, and parts that add up to it
        # only of a mean.
        if not ends <= compared or MEASURES[metric].better != "higher" or not is_bounded(metric):
            continue
        try:
            chain = failure_chain(pairing, direction, baseline, metric, level=settings.level)
        except ResultError as error:  # the two have no seed or row in common
            warnings.append(f"no failure chain: {error}")
        else:
            chains.append(chain)
    return chains
