"""Differences within strata of rows, and whether they differ between strata.

Rows belong together by hops, domain, answer type or prompt length.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from statebridge.records import CellResult, DatasetRow, ResultSet
from statebridge.results.training_overlap import SPLITS
from statebridge.stats.comparison import (
    ATTRIBUTES,
    PERMUTATIONS,
    PROMPT_LENGTH,
    Settings,
    Stratification,
    Stratum,
)
from statebridge.stats.hypothesis_tests import holm_by_family
from statebridge.stats.intervals import Floats, clustered_interval, keyed_generator, on_threads
from statebridge.stats.pairing import PairedCondition, is_zero_one

_BINS = 4
_DERIVED = {"domain": "domain_inferred"}
"""Attribute to the field of the published data that is used where it is absent."""


def stratum_labels(
    attribute: str, dataset: Mapping[str, DatasetRow], cells: Iterable[CellResult]
) -> dict[str, str]:
    """Return row id to stratum label; rows without a value of the attribute are absent.

    `prompt_length` is read from the cells (one direction's) and binned at its quartiles; any
    other attribute is looked up in the dataset rows, and is empty without them.
    """
    if attribute == PROMPT_LENGTH:
        return _binned(_prompt_lengths(cells))
    labels = {}
    for row_id, row in dataset.items():
        value = row.attributes.get(attribute)
        if value is None and attribute in _DERIVED:
            value = row.attributes.get(_DERIVED[attribute])
        if value is not None:
            labels[row_id] = str(value)
    return labels


def ordered_labels(labels: Iterable[str]) -> list[str]:
    """Return the distinct labels in reading order: numbers by size, text by alphabet."""

    def key(label: str) -> tuple[float, str]:
        digits = label.lstrip("≤>").split("–")[0]
        number = float(digits) if digits.isdecimal() else math.inf
        return (number + 0.5 if label.startswith(">") else number, label)

    return sorted(set(labels), key=key)


def _prompt_lengths(cells: Iterable[CellResult]) -> dict[str, int]:
    """The length in tokens of each row's task prompt (a relay prompt is another text)."""
    lengths: dict[str, int] = {}
    # These first: their prompt is the task prompt whatever else was run.
    whole = ("no_inject", "skyline")
    for cell in sorted(cells, key=lambda cell: (cell.condition.name not in whole, cell.name)):
        for row in cell.lanes:
            if row.prompt_len_receiver is not None and row.relay is None:
                lengths.setdefault(row.row_id, row.prompt_len_receiver)
    return lengths


def _binned(lengths: Mapping[str, int]) -> dict[str, str]:
    if not lengths:
        return {}
    inner = np.arange(1, _BINS) / _BINS
    values = sorted(lengths.values())
    # Whole tokens, and each edge belongs to the bin below it.
    edges = sorted({int(edge) for edge in np.quantile(values, inner, method="lower")})
    names = [f"≤{edges[0]}"]
    names += [f"{low + 1}–{high}" for low, high in pairwise(edges)]
    names.append(f">{edges[-1]}")
    return {
        row_id: names[int(np.searchsorted(edges, length, side="left"))]
        for row_id, length in lengths.items()
    }


_BLOCK = 250
"""Permutations arranged at a time, which bounds the memory that many rows take."""


@dataclass
class InteractionTest:
    """A permutation test of whether the mean delta differs between strata.

    The statistic is the sum of squares between strata; the strata's labels are permuted over
    the rows. The permutations depend on the attribute and the rows alone, never on the
    condition, so they are drawn once and a further condition changes nothing.
    """

    permutations: int = PERMUTATIONS
    _drawn: dict[tuple[str, tuple[str, ...]], npt.NDArray[np.int32]] = field(default_factory=dict)

    def p_value(
        self, attribute: str, row_ids: Sequence[str], labels: Sequence[str], deltas: Floats
    ) -> float | None:
        """Return the p-value; None where there is a single stratum.

        `row_ids`, `labels` and `deltas` go together, shape (rows,), sorted by row id.
        """
        codes = np.unique(np.array(labels), return_inverse=True)[1]
        sizes = np.bincount(codes)
        if len(sizes) < 2:
            return None
        starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        by_stratum = np.argsort(codes, kind="stable")
        centred = deltas - math.fsum(deltas) / len(deltas)

        def between(arranged: Floats) -> Floats:
            sums = np.add.reduceat(arranged, starts, axis=-1)
            return np.asarray((sums**2 / sizes).sum(axis=-1), dtype=np.float64)

        observed = float(between(centred[by_stratum]))
        orders = self._orders(attribute, tuple(row_ids))
        blocks = range(0, self.permutations, _BLOCK)
        shuffled = np.concatenate([between(centred[orders[at : at + _BLOCK]]) for at in blocks])
        tie = 1e-9 * max(observed, 1e-300)
        as_extreme = int(np.count_nonzero(shuffled >= observed - tie))
        return (1 + as_extreme) / (1 + self.permutations)

    def _orders(self, attribute: str, row_ids: tuple[str, ...]) -> npt.NDArray[np.int32]:
        """Random orders of the rows, shape (permutations, rows)."""
        key = (attribute, row_ids)
        if key not in self._drawn:
            generator = keyed_generator("interaction", attribute, *row_ids)
            rows = np.tile(np.arange(len(row_ids), dtype=np.int32), (self.permutations, 1))
            self._drawn[key] = generator.permuted(rows, axis=1, out=rows)
        return self._drawn[key]


def stratifications(
    results: ResultSet,
    pairs: Sequence[PairedCondition],
    settings: Settings,
    warnings: list[str],
) -> list[Stratification]:
    """Return each difference by each attribute of `settings.stratify_by`.

    Where that is the default, also by the `SPLITS` that the results hold.
    An attribute that the results do not hold adds a line to `warnings` instead.
    """
    interaction = InteractionTest(settings.permutations)
    found: list[Stratification] = []
    asked = settings.stratify_by
    if asked == ATTRIBUTES:
        asked += tuple(s for s in SPLITS if any(s in cell.row_facts for cell in results.cells))
    for attribute in asked:
        labels = _labels_by_pair(attribute, results, pairs)
        if not any(labels.values()):
            source = _SOURCES.get(attribute, "dataset rows with it")
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


_SOURCES = {PROMPT_LENGTH: "prompt lengths"} | dict.fromkeys(
    SPLITS, "record of what their maps were trained on"
)


def _labels_by_pair(
    attribute: str, results: ResultSet, pairs: Sequence[PairedCondition]
) -> dict[tuple[str, ...], Mapping[str, str]]:
    """Return row id to stratum label by the key of each paired condition."""
    if attribute in SPLITS:
        # Each map has seen rows of its own.
        return {paired.key: paired.runs[0].cell.row_facts.get(attribute, {}) for paired in pairs}
    by_direction = {
        direction: stratum_labels(
            attribute,
            results.dataset,
            [cell for cell in results.cells if cell.direction == direction],
        )
        for direction in {paired.direction for paired in pairs}
    }
    return {paired.key: by_direction[paired.direction] for paired in pairs}


def _stratified(
    paired: PairedCondition,
    attribute: str,
    labels: Mapping[tuple[str, ...], Mapping[str, str]],
    interaction: InteractionTest,
    settings: Settings,
) -> Stratification | None:
    rows = paired.by_row
    of_row = labels[paired.key]
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
                    zero_one=is_zero_one(paired.metric),
                    level=settings.level,
                    resamples=settings.resamples,
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
