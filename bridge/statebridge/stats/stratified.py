"""Differences within strata, and whether they differ between them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from statebridge.records import Direction, ResultSet
from statebridge.stats.clustered import clustered_interval
from statebridge.stats.comparison import Settings, Stratification, Stratum
from statebridge.stats.interaction import InteractionTest
from statebridge.stats.keyed_random import keyed_generator
from statebridge.stats.multiplicity import holm_by_family
from statebridge.stats.pairing import PairedCondition, is_zero_one
from statebridge.stats.strata import PROMPT_LENGTH, ordered_labels, stratum_labels
from statebridge.stats.threads import on_threads


def stratifications(
    results: ResultSet,
    pairs: Sequence[PairedCondition],
    settings: Settings,
    warnings: list[str],
) -> list[Stratification]:
    """Return each difference by each attribute of `settings.stratify_by`.

    An attribute that the results do not hold adds a line to `warnings` instead.
    """
    interaction = InteractionTest(settings.permutations)
    found: list[Stratification] = []
    for attribute in settings.stratify_by:
        labels = {
            direction: stratum_labels(
                attribute,
                results.dataset,
                [cell for cell in results.cells if cell.direction == direction],
            )
            for direction in {paired.direction for paired in pairs}
        }
        if not any(labels.values()):
            source = "prompt lengths" if attribute == PROMPT_LENGTH else "dataset rows with it"
            warnings.append(f"not stratified by {attribute}: the results hold no {source}")
            continue
        stratify = partial(
            _stratified,
            attribute=attribute,
            labels=labels,
            interaction=interaction,
            settings=settings,
        )
        found += [one for one in on_threads(stratify, pairs) if one is not None]
    adjusted = holm_by_family(
        [one.interaction_p for one in found],
        [(one.direction, one.baseline, one.metric) for one in found],
    )
    return [
        one.model_copy(update={"interaction_p_holm": p})
        for one, p in zip(found, adjusted, strict=True)
    ]


def _stratified(
    paired: PairedCondition,
    attribute: str,
    labels: Mapping[Direction, Mapping[str, str]],
    interaction: InteractionTest,
    settings: Settings,
) -> Stratification | None:
    rows = paired.by_row
    of_row = labels[paired.direction]
    row_labels = [of_row.get(row_id) for row_id in rows.row_ids]
    known = np.array([label is not None for label in row_labels])
    if not known.any():
        return None
    kept_ids = [row_id for row_id, keep in zip(rows.row_ids, known, strict=True) if keep]
    kept_labels = [label for label in row_labels if label is not None]
    deltas = rows.deltas[known]
    means, baseline_means = rows.values[known], rows.baseline_values[known]
    strata = []
    for label in ordered_labels(kept_labels):
        inside = np.array([other == label for other in kept_labels])
        size = int(inside.sum())
        strata.append(
            Stratum(
                label=label,
                n_rows=size,
                mean=math.fsum(means[inside]) / size,
                baseline_mean=math.fsum(baseline_means[inside]) / size,
                delta=math.fsum(deltas[inside]) / size,
                interval=clustered_interval(
                    deltas[inside],
                    keyed_generator("stratum", *paired.key, attribute, label),
                    zero_one=is_zero_one(paired.metric),
                    level=settings.level,
                    resamples=settings.resamples,
                    kind=settings.interval,
                ),
            )
        )
    return Stratification(
        direction=paired.direction,
        condition=paired.condition,
        baseline=paired.baseline,
        metric=paired.metric,
        attribute=attribute,
        strata=tuple(strata),
        unlabelled_rows=len(row_labels) - len(kept_labels),
        interaction_p=interaction.p_value(attribute, kept_ids, kept_labels, deltas),
        interaction_p_holm=None,
        permutations=settings.permutations,
    )
