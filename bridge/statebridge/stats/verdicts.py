"""Verdicts: what the differences of a family of conditions amount to, corrected together.

A family is all conditions that are compared with one baseline by one metric, or all channels of a
setting that are compared with another row's state. Holm's correction is over the family, for the
test of no difference and for each margin's equivalence test.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence

import numpy as np

from statebridge.scoring.measures import MEASURES
from statebridge.stats.comparison import (
    Difference,
    Equivalence,
    Settings,
    Verdict,
    measures_change,
)
from statebridge.stats.inference.detectable import detectable_median, detectable_share
from statebridge.stats.inference.hypothesis_tests import holm_by_family
from statebridge.stats.inference.means import BoundedMean
from statebridge.stats.pairing import PairedCondition, is_bounded, is_zero_one


def judged(
    pairs: Sequence[PairedCondition],
    differences: Sequence[Difference],
    families: Sequence[Hashable],
    settings: Settings,
) -> list[Difference]:
    """Return the differences of `pairs`, corrected within their families and with a verdict."""
    adjusted = holm_by_family([d.p for d in differences], families)
    sizes = Counter(
        family for d, family in zip(differences, families, strict=True) if d.p is not None
    )
    equivalences = _equivalences(pairs, differences, families, settings)
    return [
        _judged(paired, difference, p_holm, sizes[family], equivalence, settings)
        for paired, difference, p_holm, family, equivalence in zip(
            pairs, differences, adjusted, families, equivalences, strict=True
        )
    ]


def _judged(
    paired: PairedCondition,
    difference: Difference,
    p_holm: float | None,
    family: int,
    equivalence: Equivalence | None,
    settings: Settings,
) -> Difference:
    effect = difference.effect
    if effect is not None and difference.p is not None:
        size = _detectable(paired, settings.alpha / family, settings.power)
        effect = effect.model_copy(update={"minimal_detectable": size})
    corrected = difference.model_copy(
        update={
            "p_holm": p_holm,
            "family": family if p_holm is not None else None,
            "equivalence": equivalence,
            "effect": effect,
            "no_verdict_because": _no_verdict(paired, difference, settings),
        }
    )
    return corrected.model_copy(update={"verdict": _verdict(corrected, settings.alpha)})


def _detectable(paired: PairedCondition, alpha: float, power: float) -> float | None:
    rows = paired.by_row
    if is_zero_one(paired.metric):
        return detectable_share(rows.sums, rows.runs, alpha=alpha, power=power)
    if is_bounded(paired.metric):
        return None
    return detectable_median(rows.deltas, alpha=alpha, power=power)


def _no_verdict(paired: PairedCondition, difference: Difference, settings: Settings) -> str | None:
    if paired.untested:
        return f"{paired.metric} is 0 under {paired.baseline} by definition"
    if is_bounded(paired.metric) and difference.mean == difference.baseline_mean == 0:
        return "both at the floor"
    if difference.p is None:
        if difference.n_rows == 1:
            return "there is one row only"
        return "the difference is the same in every row"
    return None if is_bounded(paired.metric) else _negligible(paired, settings)


MOST_ROWS = 0.9


def _negligible(paired: PairedCondition, settings: Settings) -> str | None:
    """Why a difference without bounds has no verdict although all rows may be on one side."""
    sizes = np.abs(paired.by_row.deltas)
    for margin in sorted(settings.margins_for(paired.metric, zero_one=False)):
        share = float((sizes < margin).mean())
        if share >= MOST_ROWS:
            return f"{math.floor(100 * share)} % of the rows change by less than {margin:g}"
    return None


def _verdict(difference: Difference, alpha: float) -> Verdict | None:
    p, p_holm = difference.p, difference.p_holm
    if difference.no_verdict_because is not None or p is None or p_holm is None:
        return None
    within = difference.equivalent_within is not None
    if p_holm < alpha:
        if within:
            return "different_within"
        if MEASURES[difference.metric].better is None and not measures_change(difference.metric):
            return "higher" if difference.more_better else "lower"
        return "better" if difference.more_better else "worse"
    # A difference that only the correction leaves unproved is no evidence of equivalence.
    interval = difference.interval
    unclear = p < alpha or (interval is not None and interval.excludes(0))
    return "equivalent" if within and not unclear else "inconclusive"


def _equivalences(
    pairs: Sequence[PairedCondition],
    differences: Sequence[Difference],
    families: Sequence[Hashable],
    settings: Settings,
) -> list[Equivalence | None]:
    """Each difference's equivalence tests, corrected within the families."""
    tested = [
        None if paired.untested else difference.equivalence
        for paired, difference in zip(pairs, differences, strict=True)
    ]
    relative = holm_by_family(
        [
            None if equivalence is None else _relative_p(paired, settings)
            for paired, equivalence in zip(pairs, tested, strict=True)
        ],
        families,
    )
    by_margin = [
        holm_by_family(
            [None if e is None or len(e.margins) <= at else e.margins[at].p for e in tested],
            families,
        )
        for at in range(max((len(e.margins) for e in tested if e is not None), default=0))
    ]
    return [
        None
        if equivalence is None
        else equivalence.model_copy(
            update={
                "margins": tuple(
                    margin.model_copy(
                        update={"p_holm": p[place], "equivalent": (p[place] or 0) < settings.alpha}
                    )
                    for margin, p in zip(equivalence.margins, by_margin, strict=False)
                ),
                "relative_margin": None if relative[place] is None else settings.relative_margin,
                "relative_p": relative[place],
            }
        )
        for place, equivalence in enumerate(tested)
    ]


def _relative_p(paired: PairedCondition, settings: Settings) -> float | None:
    """p that a bounded metric's mean is not within a share of the baseline's mean of it.

    With the share r, the difference d and the baseline's value b of each row, the means of
    d + r b and of r b − d must be above zero: the test of a ratio of paired means, which takes
    into account that the baseline's mean is an estimate too. Source: S. Sasabuchi, "A test of a
    multivariate normal mean with composite hypotheses determined by linear inequalities",
    Biometrika 67 (1980).
    """
    if not is_bounded(paired.metric) or len(paired.by_row.row_ids) < 2:
        return None
    rows, share = paired.by_row, settings.relative_margin
    allowed = share * rows.baseline_values
    sides = (allowed + rows.deltas, allowed - rows.deltas)
    return max(BoundedMean(side, scale=1.0 + share, exact=True).p_above(0.0) for side in sides)
