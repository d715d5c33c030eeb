"""All figures of a result set, in the order of a report."""

from __future__ import annotations

from collections.abc import Sequence

from statebridge.audit import AuditReport
from statebridge.figures.accuracy import containment
from statebridge.figures.differences import forest
from statebridge.figures.drawing import Drawing, absent
from statebridge.figures.layers import layer_map
from statebridge.figures.norms import (
    cosine_distribution,
    norm_distribution,
    norm_mismatch,
    translator_cosine,
)
from statebridge.figures.strength import strength_curve
from statebridge.figures.texts import audit_labels, divergence_survival
from statebridge.records import ResultSet
from statebridge.scoring import primary_metric
from statebridge.stats import Comparison


def gallery(
    results: ResultSet,
    comparison: Comparison | None,
    audit: AuditReport | None = None,
    *,
    layer_runs: Sequence[ResultSet] = (),
) -> list[Drawing]:
    """Draw every figure; those that the results do not hold say why.

    Args:
        results: What was run.
        comparison: Its comparison; None where there was nothing to compare with.
        audit: Its metric-disagreement audit.
        layer_runs: Further runs over the same rows whose pairs are at other layers.
    """
    drawings = [containment(results)]
    judged = tuple(dict.fromkeys((primary_metric(results), "gold_logprob")))
    if comparison is None:
        drawings.append(absent("forest", "Differences", "there was no baseline to compare with"))
    else:
        drawings.append(forest(comparison))
    drawings += [
        norm_mismatch(results),
        norm_distribution(results),
        cosine_distribution(results),
        translator_cosine(results.manifest),
    ]
    if comparison is not None:
        drawn = [m for m in judged if m in comparison.metrics] or comparison.metrics[:1]
        curves = [strength_curve(results, comparison, metric) for metric in drawn]
        runs = [results, *layer_runs]
        maps = [layer_map(runs, metric, comparison.baselines[0]) for metric in drawn]
        # Without several layers, one reason is enough.
        drawings += [*(d for d in curves if d.figure), *(d for d in maps if d.figure)]
        drawings += [kind[0] for kind in (curves, maps) if not any(d.figure for d in kind)]
    drawings.append(divergence_survival(results))
    if audit is not None:
        drawings.append(audit_labels(audit))
    return drawings
